"""The server's side of `--mode collect` and `--collect-only`: scripts that follow a training, and take what came of it.

A result is confirmed only when it lies on the server's disk with the digest that the client stated.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fedkeras.handout.lead import Say
from fedkeras.handout.parcels import arrays_from, ask, value_of
from fedkeras.handout.results import FILES, Result, digest_of
from fedkeras.reports.atomic import sync
from strategies.checks import MAX_EXAMPLES
from strategies.dialogue import Refused, Script

MAX_BYTES = 10**11
MAX_RESULTS = 1000
MAX_STATE = 60
MAX_CID = 10**6


def train(cid: int, run: str, folder: Path, tell: Mapping, timeout: float, say: Say) -> Script[Result]:
    """Let a client train, follow it, and take its result into a folder under `folder`."""
    started = time.monotonic()
    yield ask("fit", tell, run=run)
    while True:
        answer = yield ask("progress", tell, run=run)
        say(cid, _plain(value_of(answer, "state", str)))
        if text := value_of(answer, "result", str):
            result = _result(text)
            if result.cid != cid:
                raise Refused(f"delivers the result of client {result.cid}")
            yield from take(cid, result, folder, tell, say)
            return result
        if time.monotonic() - started > timeout:
            raise Refused(f"has not trained to the end within {timeout:g} s (--round-timeout)")


def deliver(cid: int, claim: Callable[[str], bool], folder: Path, tell: Mapping, say: Say) -> Script[list[Result]]:
    """Take all that a client still holds; `claim(key)` is False for what another one is delivering."""
    answer = yield ask("pending", tell)
    try:
        texts = [json.dumps(each) for each in json.loads(value_of(answer, "results", str))][:MAX_RESULTS]
    except (ValueError, TypeError) as error:
        raise Refused("sent no list of results") from error
    taken = []
    for result in map(_result, texts):
        if claim(result.key):
            yield from take(cid, result, folder, tell, say)
            taken.append(result)
    return taken


def take(cid: int, result: Result, folder: Path, tell: Mapping, say: Say) -> Script[None]:
    """Take one result's files into `folder`/<its cid>, and confirm it."""
    partial = folder / f".part-{result.key}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        done, total = 0, max(1, sum(result.files.values()))
        for name, size in result.files.items():
            with (partial / name).open("wb") as file:
                while file.tell() < size:
                    answer = yield ask("deliver", tell, key=result.key, name=name, first=file.tell())
                    piece = arrays_from(answer).get("piece")
                    if piece is None or piece.dtype != "uint8" or not 0 < piece.size <= size - file.tell():
                        raise Refused(f"sent a piece of {name} that does not fit")
                    file.write(piece.tobytes())
                    done += piece.size
                    say(cid, f"delivering {100 * done // total} %")
            sync(partial / name)
        if digest_of([partial / name for name in result.files]) != result.digest:
            raise Refused("its result did not arrive as it was kept (the digest is another)")
        (partial / "result.json").write_text(json.dumps({**result.figures, "run": result.run, "cid": result.cid}))
        sync(partial / "result.json")
        _into_place(partial, folder, result.cid)
    except OSError as error:
        raise Refused(f"its result cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    yield ask("confirm", tell, key=result.key, digest=result.digest)
    say(cid, "delivered")


def _into_place(partial: Path, folder: Path, cid: int) -> None:
    """By one rename. Nothing that is there already is replaced: a client may deliver what it trained in two runs."""
    number = 1
    while (place := folder / (str(cid) if number == 1 else f"{cid}-{number}")).exists():
        number += 1
    partial.rename(place)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _result(text: str) -> Result:
    """What a client says of a result. Raises Refused for what no client of ours says."""
    try:
        result = Result(**json.loads(text))
        names, sizes = set(result.files), list(result.files.values())
        good = names <= set(FILES) and "model.keras" in names and all(_is_count(size, MAX_BYTES) for size in sizes)
        good = good and _is_count(result.cid, MAX_CID) and result.key.isalnum() and len(result.key) == 32
        good = good and len(result.run) <= 100 and len(result.digest) == 64
        figures = {str(name)[:40]: float(value) for name, value in list(result.figures.items())[:100]}
        good = good and 0 < figures.get("num-examples", 0) <= MAX_EXAMPLES
    except (ValueError, TypeError, AttributeError) as error:
        raise Refused("describes its result wrongly") from error
    if not good:
        raise Refused("describes its result wrongly")
    files = {name: result.files[name] for name in FILES if name in names}  # in the order in which they are hashed
    return Result(result.key, result.run, result.cid, figures, files, result.digest)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _plain(state: str) -> str:
    return "".join(char for char in state[:MAX_STATE] if char.isprintable())
