"""Clients that answer with what no client should: each is a failure of its own, and the others' average stays right."""

from faults.stage import Stage, Verdict
from faults.toy_node import BAD_REPLIES


def bad(stage: Stage) -> Verdict:
    """Clients 2 and up each send something wrong in each round; clients 0 and 1 decide the result."""
    stage.train_seconds, stage.rounds, stage.partitions = 0.0, 4, 2 + len(BAD_REPLIES)
    stage.serve("--rest-after", 0)
    stage.others(0, 1)
    cids = range(2, stage.partitions)
    verdict = stage.verdict(0.0, stage.join(",".join(map(str, cids)), "--how", "bad"), cids=(0, 1), last=3)
    log = (stage.run_folder / "run.log").read_text()
    for cid, how in zip(cids, BAD_REPLIES, strict=True):
        if verdict.survived and f"client {cid}" not in log:
            return Verdict(False, 0.0, f"client {cid}, which sent {how}, is not named")
    return verdict


def duplicated(stage: Stage) -> Verdict:
    """Client 0 sends each reply twice, and once more with the next: each counts once."""
    stage.serve()
    stage.others(1, 2)
    client = stage.join(0, "--how", "twice")
    return stage.verdict(0.0, client)


def reordered(stage: Stage) -> Verdict:
    """One process has three clients, and answers the last first."""
    stage.train_seconds = 0.0
    stage.serve()
    return stage.verdict(0.0, stage.join("0,1,2", "--how", "backwards"))
