"""How many files one value passes: a model weight from the server to a client and back, a handed-out file to k-fold.

python -m benchmarks.walks

Counted are the files of fedkeras in which a function is entered that was handed the value in one of its forms
(arrays, records, messages, what is encoded of them, a checkpoint; tables, shards, slices of rows). The weight's walk
begins with the round and ends with the checkpoint; the file's begins with the command and ends where cross-validation
begins. Server and client are threads of one process with a real gRPC stream between them. Files are printed in the
order in which they are entered first, with how often the walk came back to each from another file. The last line is
JSON.
"""

import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np

from benchmarks.case import Case
from fedkeras import client, models, server
from fedkeras.config import Config
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.node import serve

ROOT = Path(__file__).resolve().parents[1]
QUICK = [Case("", 15)]
WEIGHT = (
    "ArrayRecord", "Array", "RecordDict", "Message", "ClientRequest", "EncodedContent", "Outgoing", "Checkpoint",
    "ndarray", "memoryview",
)  # fmt: skip
FILE = (
    *WEIGHT, "memmap", "Shard", "ModelFile", "Provision", "Ask", "ProvisionedClient", "EagerTensor", "PosixPath",
)  # fmt: skip
"""Names of the types that carry the value."""


class Walk:
    """The files entered with the value in hand, as all threads of this process enter them."""

    def __init__(self, forms: tuple[str, ...], first: str, last: str) -> None:
        """`forms` carry the value; the walk is from the first call of function `first` to the first of `last`."""
        self._forms, self._first, self._end, self._under_way = forms, first, last, first == ""
        self.files: dict[str, int] = {}
        self.returns: Counter[str] = Counter()
        self._last: dict[int, str] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """A profile function: looks at calls alone."""
        if event != "call":
            return
        path = frame.f_code.co_filename
        if not path.startswith(str(ROOT)) or "/benchmarks/" in path or "/.venv/" in path:
            return
        if frame.f_code.co_name in (self._first, self._end):
            self._under_way = frame.f_code.co_name == self._first
        if not self._under_way and frame.f_code.co_name != self._end:
            return
        own = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[: frame.f_code.co_argcount]]
        if not any(carries(value, self._forms) for value in own):
            return
        name, thread = str(Path(path).relative_to(ROOT)), threading.get_ident()
        if name not in self.files:
            self.files[name] = len(self.files)
        elif self._last.get(thread) != name:
            self.returns[name] += 1
        self._last[thread] = name

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Watch this thread and all that are begun meanwhile."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def carries(value: object, forms: tuple[str, ...]) -> bool:
    """Whether a value is of one of these types, or a table or a row of them."""
    if isinstance(value, dict) and value:
        value = next(iter(value.values()))
    elif isinstance(value, list | tuple) and value:
        value = value[0]
    return type(value).__name__ in forms


def run(config: Config, folder: Path) -> None:
    """A run over gRPC whose clients are threads of this process."""
    with GrpcGrid("127.0.0.1", 0, config.num_partitions, config.for_clients()) as grid:
        own = {"allow": "*", "trust-code": False, "deliver": False}
        arguments = (client.answer, grid.address, range(config.num_partitions), own, 60.0, client.prepare)
        threading.Thread(target=serve, args=arguments, kwargs={"report": lambda text: None}, daemon=True).start()
        server.train(grid, config, folder, threads=1)


def weight(folder: Path) -> Config:
    """One round of one client: the weights go out and come back, and into a checkpoint."""
    return Config(num_partitions=1, num_server_rounds=1, fraction_evaluate=0.0, central_evaluation=False)


def file(folder: Path) -> Config:
    """Tables of the server's, handed to one client that cross-validates on them."""
    rng = np.random.default_rng(0)
    for name, rows in (("X", rng.normal(size=(60, 4))), ("Y", rng.integers(0, 2, 60)[:, None])):
        (folder / "dataset" / name).mkdir(parents=True)
        header = ",".join(f"{name.lower()}{i}" for i in range(rows.shape[1]))
        np.savetxt(folder / "dataset" / name / "part.csv", rows, delimiter=",", header=header, comments="")
    model = models.build("mnist_2nn", input_shape=(4,), num_classes=2)
    models.save(model, folder / "model.keras")
    given = {"data_source": "server", "data_dir": str(folder / "dataset"), "model": str(folder / "model.keras")}
    once = {"mode": "collect", "method": "kfold", "folds": 2, "num_partitions": 1, "normaliser": "zscore"}
    return Config(**given, **once)


def measure(make: Callable[[Path], Config], walk: Walk) -> Walk:
    """Take the walk in one run."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-walk-") as name:
        folder = Path(name)
        config = make(folder)
        with walk.taken():
            run(config, folder / "runs")
    return walk


def main() -> None:
    """Take both walks and print them."""
    figures = {}
    walks = {"weight": (weight, Walk(WEIGHT, "one_round", "save")), "file": (file, Walk(FILE, "", "cross_validate"))}
    for name, (make, walk) in walks.items():
        measure(make, walk)
        print(f"\n{name}: {len(walk.files)} files, {sum(walk.returns.values())} returns")
        for path in walk.files:
            print(f"  {path:<52}{walk.returns[path]:>6}")
        figures[f"{name}_files"] = len(walk.files)
        figures[f"{name}_returns"] = sum(walk.returns.values())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
