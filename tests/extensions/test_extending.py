"""docs/extending.md: every example is a whole file that runs, and none is longer than 40 lines."""

import re
from pathlib import Path

import numpy as np
import pytest

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.reports import read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A short run in this process, with all examples beside it."""
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def made(**fields):
        config = Config(**{"num_partitions": 2, "num_server_rounds": 1, "seed": 4, **fields})
        return server.in_process(config, client.app, tmp_path / "runs")

    return made


def weights(folder) -> dict[str, np.ndarray]:
    return newest_checkpoint(folder).weights


def figures(folder, name: str) -> dict[str, float]:
    return {row["client"]: row[name] for row in read_rows(folder.history_path) if row["phase"] == "evaluate"}


def test_there_is_an_example_of_each_and_none_is_long() -> None:
    assert set(EXAMPLES) == {f"my_{kind}.py" for kind in ("strategy", "mod", "objective", "workflow", "data", "model")}
    assert all(text.count("\n") < 40 for text in EXAMPLES.values())


def test_the_strategy_goes_half_of_the_way(run) -> None:
    start = weights(run(strategy="my_strategy:Halfway", strategy_args="share=0"))
    half, mean = weights(run(strategy="my_strategy:Halfway")), weights(run())
    for name, old in start.items():
        np.testing.assert_allclose(half[name], (old + mean[name]) / 2, atol=1e-6)
        assert not np.array_equal(old, mean[name])


def test_the_mod_adds_noise_and_counts_updates(run) -> None:
    noisy, plain = run(mods="my_mod:Noise:scale=0.5", num_server_rounds=2), run(num_server_rounds=2)
    assert newest_checkpoint(noisy).strategy["mods"] == [{"scale": 0.5, "updates": 4}]
    norms = [row["noise_norm"] for row in read_rows(noisy.history_path) if row["phase"] == "train"]
    sizes = sum(array.size for array in weights(plain).values())
    assert norms == pytest.approx([0.5 * sizes**0.5] * len(norms), rel=0.05) and len(norms) >= 4
    name = next(iter(weights(plain)))
    assert np.std(weights(noisy)[name] - weights(plain)[name]) > 0.1


def test_the_objective_keeps_the_weights_small(run) -> None:
    tight, plain = weights(run(mods="my_objective:WithRidge:strength=5")), weights(run())
    length = lambda arrays: sum(float((array**2).sum()) for array in arrays.values())  # noqa: E731
    assert length(tight) < 0.5 * length(plain)


def test_the_workflow_evaluates_and_trains_nothing(run) -> None:
    folder = run(mode="my_workflow:EvaluateOnly")
    assert folder.path.name.endswith("digits-evaluate-only")
    assert set(figures(folder, "loss")) == {"0", "1", "all", "server"}
    assert {row["phase"] for row in read_rows(folder.history_path)} == {"evaluate"}


def test_the_data_and_the_model_train_together(run) -> None:
    own = {"dataset": "my_data:spirals", "model": "my_model:small", "optimizer": "adam", "learning_rate": 0.05}
    folder = run(**own, num_server_rounds=5, local_epochs=40)
    assert figures(folder, "accuracy")["server"] > 0.9
