"""A private run whose server is killed with SIGKILL, over real processes: nothing that was released is forgotten."""

import json
import signal
from pathlib import Path

import pytest
from processes import until

FLAGS = (
    "--mods", "dp:epsilon=6,delta=1e-3,clip=0.5", "--num-partitions", 6, "--fraction-train", 0.5, "--num-server-rounds",
    120, "--client-weights", "uniform", "--rest-after", 0, "--model", "logistic_regression", "--spawn", 2, "--seed", 3,
    "--no-central-evaluation", "--checkpoint-every", 20,
)  # fmt: skip


def rounds_of(path: Path) -> list[dict]:
    return json.loads(path.read_text())["rounds"] if path.exists() else []


@pytest.mark.slow
def test_rounds_after_the_last_checkpoint_are_paid_for_twice(start):
    """Killed some rounds after a checkpoint: the ledger has them all, and the run that goes on pays for them again."""
    server, _ = start.server(*FLAGS)
    ledger = start.run_folder() / "privacy.json"
    until(lambda: len(rounds_of(ledger)) >= 30, "thirty rounds in the ledger")
    server.popen.send_signal(signal.SIGKILL)
    server.ended()
    before = rounds_of(ledger)
    assert [entry["round"] for entry in before] == list(range(1, len(before) + 1))
    again, _ = start.server("--resume", ledger.parent, "--spawn", 2)
    assert again.ended() == 0, again.err
    after = rounds_of(ledger)
    assert after[: len(before)] == before
    kept = 20 * (len(before) // 20)
    assert after[len(before)]["round"] == kept + 1, "what the checkpoint lacks is done again"
    spent = [entry["epsilon"] for entry in after]
    assert spent == sorted(set(spent)) and spent[-1] <= 6
    summary = json.loads((ledger.parent / "summary.json").read_text())
    assert summary["privacy"]["epsilon"] == spent[-1]
    assert summary["rounds"] == after[-1]["round"] < 120, "so many rounds fewer than the budget was for"
