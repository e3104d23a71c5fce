"""`python -m benchmarks.attacks`: what it lists, how it judges, that its last line counts; the attacks are its own."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.attacks.outcome import Outcome, descriptors, memory_mb, peak_memory_mb

command = importlib.import_module("benchmarks.attacks.__main__")
KINDS = {"channel", "claims", "ends", "receiver", "strangers", "wire"}


def cannot(_: Path) -> Outcome:
    raise AssertionError("the server\nnever came")


def leaves(folder: Path) -> Outcome:
    (folder / "trace").touch()
    return Outcome(True, "nothing")


@pytest.fixture
def played(monkeypatch, capsys):
    """Run the command over these attacks; its status, its lines and its last line."""

    def play(*words: str) -> tuple[int, list[str], dict]:
        fell = Outcome(False, "0.87 to 0.10")
        attacks = [("a", "one", leaves), ("a", "two", lambda _: fell), ("b", "three", cannot)]
        monkeypatch.setattr(command, "attacks", lambda: iter(attacks))
        monkeypatch.setattr(sys, "argv", ["attacks", *words])
        status = command.main()
        lines = capsys.readouterr().out.splitlines()
        return status, lines, json.loads(lines[-1]) if lines[-1].startswith("{") else {}

    return play


def test_every_kind_is_there_and_no_name_twice() -> None:
    found = [(kind, name) for kind, name, _ in command.attacks()]
    assert {kind for kind, _ in found} == KINDS and len(set(found)) == len(found)


def test_who_held_and_who_fell_is_counted(played) -> None:
    status, lines, counts = played()
    assert (status, counts["held"], counts["fell"]) == (1, 1, 2)
    assert [each["held"] for each in counts["attacks"]] == [True, False, False]
    assert "FELL" in lines[3] and "AssertionError: the server never came" in lines[3]
    assert played("one")[0] == 0 and played("one")[2]["held"] == 1


def test_listing_plays_none_and_what_is_kept_stays(played, tmp_path: Path) -> None:
    status, lines, counts = played("--list")
    assert (status, lines[1:], counts) == (0, ["a: one", "a: two", "b: three"], {})
    assert played("one", "--keep", str(tmp_path / "kept"))[0] == 0
    assert (tmp_path / "kept" / "00-a" / "trace").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux' /proc")
def test_what_an_attack_costs_is_read_from_the_process() -> None:
    assert 10 < memory_mb(os.getpid()) <= peak_memory_mb(os.getpid()) < 100_000
    before = descriptors(os.getpid())
    with Path("/dev/null").open():
        assert descriptors(os.getpid()) == before + 1
