"""What a server says to clients to collect what they train, or have trained: scripts, each of one client's messages.

A result is confirmed only when it lies on the server's disk with the digest that the client stated; and what lies there
has been collected, whatever becomes of its client afterwards.
"""

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedkeras import atomic, csv_text
from fedkeras.federation.dispatcher import SPARE_BYTES, ClientRefused, Script
from fedkeras.federation.messages import NUM_EXAMPLES
from fedkeras.federation.validation import fault_of_metrics
from fedkeras.provisioning.protocol import ReportState, arrays_of_answer, ask, value_of
from fedkeras.workflows.collect.outbox import FILES, PIECE_BYTES, LocalResult, digest_of

log = logging.getLogger("fedkeras")

MAX_BYTES = 10**11
MAX_RESULTS = 100
"""Results that one client may deliver at once; what is left over it keeps, and delivers when it is collected again."""
MAX_TABLE = 16 << 20
"""Bytes of a result's table or log."""
LEFT_FREE = 256 << 20
"""What collecting leaves free on the disk."""
MAX_STATE = 60
MAX_CID = 10**6


@dataclass(frozen=True)
class CollectedModels:
    """What has been collected into `folder`: `models` by the name of the folder in it, in the order of arrival.

    That name is the cid under which the model was trained; of further models of that cid, `0-2`, `0-3`.
    """

    folder: Path
    models: dict[str, LocalResult] = field(default_factory=dict)
    limit: int = 2**63
    """Bytes that one client may deliver in the run."""
    taken: Counter[int] = field(default_factory=Counter)
    """Bytes that each has delivered, or is delivering."""

    def admit(self, cid: int, result: LocalResult) -> None:
        """Count a result to its client before a byte of it is taken. Raises ClientRefused if it is too much."""
        size = sum(result.files.values())
        if self.taken[cid] + size > self.limit:
            raise ClientRefused(
                f"would deliver {(self.taken[cid] + size) / 1e6:.0f} MB, and a client may deliver "
                f"{self.limit / 1e6:.0f} MB in a run (--max-result-mb)"
            )
        if (free := shutil.disk_usage(self.folder).free) < size + LEFT_FREE:
            raise ClientRefused(f"would deliver {size / 1e6:.0f} MB, and {self.folder} has {free / 1e6:.0f} MB free")
        self.taken[cid] += size

    def give_up(self, cid: int, result: LocalResult) -> None:
        """A result that was admitted has not arrived."""
        self.taken[cid] -= sum(result.files.values())


def train_and_take(
    cid: int, run: str, collected: CollectedModels, timeout: float, report: ReportState,
    fault_of_count: Callable[[int], str | None] = lambda count: None,
) -> Script[None]:  # fmt: skip
    """Let a client train, for at most `timeout` seconds; report its states, and take its result.

    `fault_of_count` says what is wrong with the number of examples that it states.
    """
    started = time.monotonic()
    yield ask("fit", run=run)
    while True:
        answer = yield ask("progress", run=run)
        report(cid, _plain(value_of(answer, "state", str)))
        if text := value_of(answer, "result", str):
            result = _result(text)
            if result.cid != cid:
                raise ClientRefused(f"delivers the result of client {result.cid}")
            if fault := fault_of_count(int(result.figures[NUM_EXAMPLES])):
                raise ClientRefused(fault)
            yield from take(cid, result, collected, report)
            return
        if time.monotonic() - started > timeout:
            raise ClientRefused(f"has not trained to the end within {timeout:g} s (--round-timeout)")


def take_all(cid: int, claim: Callable[[str], bool], collected: CollectedModels, report: ReportState) -> Script[int]:
    """Take all that a client still holds, and return how many; `claim(key)` is False for what another one delivers."""
    answer = yield ask("pending")
    try:
        listed = json.loads(value_of(answer, "results", str))
        texts = [json.dumps(each) for each in listed[:MAX_RESULTS]]
    except (ValueError, TypeError, RecursionError) as error:
        raise ClientRefused("sent no list of results") from error
    if len(listed) > MAX_RESULTS:
        log.warning(
            "client %d holds %d results; %d are taken now, the rest by another run", cid, len(listed), MAX_RESULTS
        )
    taken = 0
    for result in map(_result, texts):
        if claim(result.key):
            yield from take(cid, result, collected, report)
            taken += 1
    return taken


def take(cid: int, result: LocalResult, collected: CollectedModels, report: ReportState) -> Script[None]:
    """Take one result's files into a folder of `collected`, note it there, and confirm it."""
    folder = collected.folder
    collected.admit(cid, result)
    arrived = False
    partial = folder / f".part-{result.key}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        done, total = 0, max(1, sum(result.files.values()))
        for name, size in result.files.items():
            with (partial / name).open("wb") as file:
                while file.tell() < size:
                    most = PIECE_BYTES + SPARE_BYTES
                    answer = yield ask("deliver", None, True, most, key=result.key, name=name, first=file.tell())
                    piece = arrays_of_answer(answer).get("piece")
                    if piece is None or piece.dtype != "uint8" or not 0 < piece.size <= size - file.tell():
                        raise ClientRefused(f"sent a piece of {name} that does not fit")
                    file.write(piece.tobytes())
                    done += piece.size
                    report(cid, f"delivering {100 * done // total} %")
            atomic.sync(partial / name)
        if digest_of([partial / name for name in result.files]) != result.digest:
            raise ClientRefused("its result did not arrive as it was kept (the digest is another)")
        for table in partial.glob("*.csv"):
            table.write_bytes(csv_text.defused(table.read_bytes()))
            atomic.sync(table)
        (partial / "result.json").write_text(json.dumps({**result.figures, "run": result.run, "cid": result.cid}))
        atomic.sync(partial / "result.json")
        collected.models[_into_place(partial, folder, result.cid)] = result
        arrived = True
    except ValueError as error:
        raise ClientRefused(f"a table of its result {error}") from error
    except OSError as error:
        raise ClientRefused(f"its result cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not arrived:
            collected.give_up(cid, result)
    yield ask("confirm", key=result.key, digest=result.digest)
    report(cid, "delivered")


def _into_place(partial: Path, folder: Path, cid: int) -> str:
    """Rename it, and return the new name.

    Nothing that is in the folder already is replaced: a client may deliver what it has trained in two runs, and two
    machines may each have been client 0.
    """
    number = 1
    while (place := folder / (str(cid) if number == 1 else f"{cid}-{number}")).exists():
        number += 1
    partial.rename(place)
    atomic.sync_folder(folder)
    return place.name


def _result(text: str) -> LocalResult:
    """What a client says of a result. Raises ClientRefused for what no client of ours says."""
    try:
        result = LocalResult(**json.loads(text))
        names, sizes = set(result.files), list(result.files.values())
        good = names <= set(FILES) and "model.keras" in names and all(_is_count(size, MAX_BYTES) for size in sizes)
        good = good and all(size <= MAX_TABLE for name, size in result.files.items() if name != "model.keras")
        good = good and _is_count(result.cid, MAX_CID) and result.key.isalnum() and len(result.key) == 32
        good = good and len(result.run) <= 100 and len(result.digest) == 64
        figures = {str(name): float(value) for name, value in result.figures.items()}
        fault = fault_of_metrics(figures)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ClientRefused("describes its result wrongly") from error
    if fault:
        raise ClientRefused(fault)
    if not good:
        raise ClientRefused("describes its result wrongly")
    files = {name: result.files[name] for name in FILES if name in names}  # in the order in which they are hashed
    return LocalResult(result.key, result.run, result.cid, figures, files, result.digest)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _plain(state: str) -> str:
    return "".join(char for char in state[:MAX_STATE] if char.isprintable())
