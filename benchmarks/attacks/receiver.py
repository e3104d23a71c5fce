"""Who believes what it is sent: clients of a false server, and a collecting server with a false client's model files.

The false server speaks the protocol; on loopback without a passphrase any server may. Where a client looks is noted by
an audit hook of Python's, which a sitecustomize.py puts into the client's process.
"""

import contextlib
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import grpc
import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from processes import ROOT, Process, starting, until

from benchmarks.attacks.outcome import Outcome, memory_mb, peak_memory_mb
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.records import record
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.provisioning.download_cache import size_of
from fedkeras.runtime import node, wire
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Header, Welcome
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.workflows.collect.outbox import LocalResult, digest_of

sys.path.insert(0, str(ROOT / "tests" / "models"))
from crafted_files import CONFIGURATIONS, CONTAINERS, GROWN, keras_file

SECONDS = 60.0
"""Nothing here takes so long on a healthy machine."""

HOOK = """
import sys
def note(event, args):
    if event in ("open", "os.listdir", "os.scandir", "import", "exec") and "trap" in " ".join(map(str, args)):
        if not busy:
            busy.append(1)
            with open({log!r}, "a") as file:
                file.write(event + " " + str(args)[:200] + "\\n")
            busy.clear()
busy = []
sys.addaudithook(note)
"""


def names_of_code(folder: Path) -> Outcome:
    """The run's data set, model, mod and way to train are of the server's choice: a module in the client's reach."""
    ran, told = [], []
    for key, name in [("dataset", "trap:f"), ("model", "trap:f"), ("mods", "trap:M"), ("mode", "trap:W")]:
        with client_of(folder / key, {key: name}, trapped=True) as (client, _, touched):
            status = client.ended(SECONDS)
            ran += touched()
            told.append(
                status == 2 and f"the server names code for {'workflows' if key == 'mode' else key}" in client.err
            )
    return Outcome(
        not ran and all(told), f"{len(ran)} imports, {sum(told)} of {len(told)} refused with status 2 and a line"
    )


def paths(folder: Path) -> Outcome:
    """Each setting that holds a path, the server's own ones too, has one of the server's choice."""
    trap = str(folder / "trap")
    found, refused = [], []
    for key, name in [("dataset", f"{trap}/x.npz"), ("model", f"{trap}/x.keras")]:
        with client_of(folder / key, {key: name}, trapped=True) as (client, _, touched):
            refused.append(client.ended(SECONDS) == 2 and "the server names a file" in client.err)
            found += touched()
    own = ("data-dir", "resume", "run-dir", "passphrase-file", "tls-cert", "tls-key", "tls-client-ca", "app")
    with client_of(folder / "own", dict.fromkeys(own, trap), trapped=True) as (client, _, touched):
        client.said("ready")
        found += touched()
    return Outcome(not found and all(refused), f"{len(found)} files opened or folders listed, of {2 + len(own)} named")


def lengths_without_bound(folder: Path) -> Outcome:
    """Welcome and a message state 2^63 bytes; another of 2 GB is really sent."""
    peaks, lines = [], []
    for size, send in ((2**63 - 1, 0), (2 << 30, 2 << 30)):
        with starting(made(folder / str(send))) as start, RawServer(Header(payload_bytes=size), send) as server:
            client = start.client(server.address, 0, "--max-message-mb", 100)
            peak = most_memory(client)
            lines.append(client.ended(SECONDS) == 2 and "--max-message-mb" in client.err)
            peaks.append(peak)
    return Outcome(all(lines) and max(peaks) < 1500, f"{max(peaks):.0f} MB at most, TensorFlow's import among them")


def words(folder: Path) -> Outcome:
    """Goodbye and refusals of 100 kB with escape sequences, and lines that look like the client's own."""
    reason = "\x1b[2J\x1b]0;x\x07\nclient: the run is finished\n" + "A" * 100_000
    shown = []
    for goodbye in (Goodbye(reason=reason), Goodbye(reason=reason, over=True, finished=True)):
        with starting(made(folder / str(goodbye.over))) as start, RawServer(goodbye, 0) as server:
            client = start.client(server.address, 0)
            client.ended(SECONDS)
            shown.append(client.out + client.err)
    clean = all("\x1b" not in text and "\nclient: the run is finished\n" not in text for text in shown)
    return Outcome(clean and max(map(len, shown)) < 3000, f"{max(map(len, shown))} characters at most on the terminal")


def hand_outs(folder: Path) -> Outcome:
    """Tables of a terabyte that are announced as a byte; then more and more files, none ever whole."""
    answers, used = [], 0
    with client_of(folder, {"data-source": "server"}, "--max-download-mb", 3) as (client, grid, _):
        client.said("ready")
        large = {"x": ["<f8", [10**9, 100]]}
        answers.append(asked(grid, "offer", offer(rows=digest(0), layout=json.dumps(large), rows_bytes=1)))
        for number in range(1, 6):
            answers.append(asked(grid, "offer", offer(model=digest(number), model_bytes=2_000_000)))
            piece = RecordDict({"c": ConfigRecord({"first": 0}), "a": record({"piece": np.zeros(1_900_000, np.uint8)})})
            asked(grid, "model_file", piece)
            used = max(used, size_of(folder / "cache"))
        answers.append(asked(grid, "offer", offer(rows=digest(7), layout='{"../x": ["<f4", [9]]}', rows_bytes=36)))
    refused = [reply.has_error() for reply in answers]
    held = refused[0] and refused[-1] and 1_000_000 < used < 4_000_000
    return Outcome(held, f"{used / 1e6:.1f} MB at most on the disk, of 10^6 that were meant")


def results_of_other_runs(folder: Path) -> Outcome:
    """The server asks a client for the models that it trained in other people's runs, and to delete them."""
    kept = folder / "cache" / "results" / ("0" * 32)
    kept.mkdir(parents=True)
    (kept / "model.keras").write_bytes(b"secret")
    result = LocalResult(kept.name, "theirs", 0, {"num-examples": 1.0}, {"model.keras": 6}, "")
    (kept / "result.json").write_text(json.dumps(asdict(result)))
    with client_of(folder, {"data-source": "client", "mode": "collect"}) as (client, grid, _):
        client.said("ready")
        ask = lambda action, **sent: asked(grid, action, RecordDict({"c": ConfigRecord(sent)}))  # noqa: E731
        replies = [ask("pending"), ask("deliver", key=kept.name, name="model.keras", first=0)]
        replies.append(ask("confirm", key=kept.name, digest=""))
    given = sum(not reply.has_error() for reply in replies)
    return Outcome(not given and (kept / "model.keras").exists(), f"{given} of 3 questions answered")


def handed_out_models(folder: Path) -> Outcome:
    """The server hands out files that grow, run code or lead elsewhere, and has the client describe and train."""
    chosen = ["weights of 40 MB in 40 kB (CVE-2026-0897)", "an external link (CVE-2026-1669)"]
    files = {name: CONTAINERS[name][0] for name in chosen}
    for name in ("compile_config within a model within it", "any module's function (CVE-2025-1550)"):
        files[name] = lambda path, name=name: keras_file(path, CONFIGURATIONS[name][0])
    files["grown"] = lambda path: keras_file(path, GROWN["a layer of a billion"])
    taken, said = [], set()
    with client_of(folder, {"data-source": "keras", "target": "XY"}) as (client, grid, _):
        client.said("ready")
        before = memory_mb(client.popen.pid)
        for name, craft in files.items():
            craft(folder / "m.keras")
            content = (folder / "m.keras").read_bytes()
            hand_out(grid, content)
            replies = [asked(grid, "describe", RecordDict({"c": ConfigRecord({})}))]
            if name == "grown":  # its container is good, and nothing is made of it before it is to be trained
                replies = [asked(grid, "initial_weights", RecordDict({"c": ConfigRecord({})}))]
            taken += [name] if not all(reply.has_error() for reply in replies) else []
            said |= {reply.error.reason for reply in replies if reply.has_error()}
        grown = peak_memory_mb(client.popen.pid) - before
    refused = sum("model file" in reason for reason in said)
    return Outcome(
        not taken and refused == len(files) and grown < 500,
        f"{len(taken)} of {len(files)} taken, {grown:.0f} MB more at most",
    )


def delivered_bombs(folder: Path) -> Outcome:
    """A client delivers a file of kilobytes that becomes gigabytes in reading, or in building."""
    return delivered(folder, [CONTAINERS["7 GB that were never written (CVE-2026-0897)"][0], grown_file])


def delivered_links(folder: Path) -> Outcome:
    """A client delivers files whose weights are those of files on the server."""
    names = ("external storage (CVE-2026-1669)", "a virtual data set (#22976)", "a soft link (#22900)")
    return delivered(folder, [CONTAINERS[name][0] for name in names])


def delivered_code(folder: Path) -> Outcome:
    """A client delivers files that would run code, at the top and in the compiled settings of a model within."""
    names = ("compile_config two models deep", "a Lambda (CVE-2024-3660)")
    crafts = [lambda path, name=name: keras_file(path, CONFIGURATIONS[name][0]) for name in names]
    return delivered(folder, crafts)


def crafted_files_in_a_process(folder: Path) -> Outcome:
    """Each crafted file, as a client and a server open it: in a process with bounds."""
    made(folder)
    crafts = {name: craft for name, (craft, _) in CONTAINERS.items()}
    fell, peak = [], 0.0
    with starting(folder) as start:
        for number, (name, craft) in enumerate(crafts.items()):
            path = folder / f"m{number}.keras"
            craft(path)
            process = start(sys.executable, "-m", "fedkeras.models.file_child", path)
            peak = max(peak, most_memory(process))
            process.ended(SECONDS)
            told = json.loads(process.out.strip() or '{"fault": ""}')
            fell += [] if told["fault"].startswith("cannot read the model file") else [name]
    return Outcome(
        not fell and peak < 400, f"{len(crafts) - len(fell)} of {len(crafts)} refused, {peak:.0f} MB at most"
    )


def delivered(folder: Path, crafts: Iterable[Callable[[Path], None]]) -> Outcome:
    """A collecting server for each of the files; its model must not come of them, and it must stay small."""
    peaks, taken, broken = [], 0, 0
    for number, craft in enumerate(crafts):
        own = made(folder / str(number))
        craft(own / "model.keras")
        with starting(own) as start:
            server = start.python(ROOT / "server.py", "--collect-only", "--num-partitions", 1, "--port", 0)
            server.said("listening on ")
            until(lambda server=server: "\n" in server.out, "the address")
            false_client(server.out.split()[2], own / "model.keras")
            peaks.append(most_memory(server))
            status = server.ended(SECONDS)
            (run,) = (own / "runs").iterdir()
            taken += (run / "model.keras").exists() or "there is no aggregate" not in server.err
            broken += status != 0
    return Outcome(
        not taken and not broken and max(peaks) < 1200,
        f"{taken} taken, {broken} runs ended, {max(peaks):.0f} MB at most in the server",
    )


def grown_file(path: Path) -> None:
    """A model of four gigabytes in some kilobytes."""
    keras_file(path, GROWN["a layer of a billion"])


def false_client(address: str, path: Path) -> None:
    """Join, and deliver this file as what was trained."""
    result = LocalResult(
        uuid.uuid4().hex, "run", 0, {"num-examples": 10.0}, {"model.keras": path.stat().st_size}, digest_of([path])
    )

    def app(message: Message, context: Context) -> Message:
        action = message.metadata.message_type.partition(".")[2]
        content = RecordDict({"config": ConfigRecord({})})
        if action == "pending":
            content = RecordDict({"config": ConfigRecord({"results": json.dumps([asdict(result)])})})
        elif action == "deliver":
            first = int(message.content["config"]["first"])
            piece = np.frombuffer(path.read_bytes()[first : first + (8 << 20)], np.uint8)
            content = RecordDict({"config": ConfigRecord({}), "arrays": record({"piece": piece})})
        return Message(content, reply_to=message)

    with contextlib.suppress(UserError):
        node.serve(app, address, [0], {}, 10.0)


@contextlib.contextmanager
def client_of(
    folder: Path, told: dict[str, str], *flags: object, trapped: bool = False
) -> Iterator[tuple[Process, GrpcGrid, Callable[[], list[str]]]]:
    """A real client.py at a false server that tells it this; and where it has been, if the folder is `trapped`."""
    made(folder)
    trap, log = folder / "trap", folder / "touched"
    if trapped:
        trap.mkdir(exist_ok=True)
        (folder / "trap.py").write_text("def f(*_, **__): raise SystemExit\nclass M: pass\nclass W: pass\n")
        (folder / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    with GrpcGrid("127.0.0.1", 0, 1, Config().for_clients() | told) as grid, starting(folder) as start:
        client = start.client(grid.address, 0, *flags)
        yield client, grid, lambda: log.read_text().splitlines() if log.exists() else []


def asked(grid: GrpcGrid, action: str, content: RecordDict) -> Message:
    """The client's answer to a question."""
    act_as(SERVER_NODE_ID, grid.run.run_id)
    until(grid.cids, "the client", SECONDS)
    (reply,) = grid.send_and_receive([Message(content, node_id_of(0), f"query.{action}")], timeout=SECONDS)
    return reply


def offer(
    model: str = "f" * 64, rows: str = "", layout: str = "{}", model_bytes: int = 1, rows_bytes: int = 0
) -> RecordDict:
    """What a server offers before it hands it out."""
    sent = {"model": model, "suffix": ".keras", "rows": rows, "layout": layout}
    return RecordDict({"c": ConfigRecord({**sent, "model-bytes": model_bytes, "rows-bytes": rows_bytes})})


def hand_out(grid: GrpcGrid, content: bytes) -> None:
    """Offer a model file and send it."""
    import hashlib

    asked(grid, "offer", offer(model=hashlib.sha256(content).hexdigest(), model_bytes=len(content)))
    arrays = record({"piece": np.frombuffer(content, np.uint8)})
    asked(grid, "model_file", RecordDict({"c": ConfigRecord({"first": 0}), "a": arrays}))


def digest(number: int) -> str:
    """Something that looks like a digest."""
    return f"{number:064x}"


class RawServer:
    """Logs every client in without a passphrase, sends `last`, and then as many bytes in chunks as `more` says."""

    def __init__(self, last: Header | Goodbye, more: int) -> None:
        self._last, self._more = last, more
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(self._join, wire.parse, wire.serialise)
        service, method = wire.METHOD.strip("/").split("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._ended = threading.Event()

    def __enter__(self) -> "RawServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop(0)

    def _join(self, frames: Iterator[wire.Parsed], context: grpc.ServicerContext) -> Iterator[Frame | wire.Chunk]:
        next(frames)
        yield Frame(challenge=Challenge())
        join = next(frames).join
        told = json.dumps(Config().for_clients() | {"data-source": "server"})
        yield Frame(welcome=Welcome(run_id=1, num_partitions=2**32 - 1, run_config=told, session=b"s" * 16,
                                    cids=join.cids, max_message_bytes=2**63))  # fmt: skip
        if isinstance(self._last, Goodbye):
            yield Frame(goodbye=self._last)
            return
        self._last.message_id, self._last.cid, self._last.message_type = "m", 0, "query.offer"
        info = self._last.records.add(name="a").arrays.arrays.add(name="x", dtype="uint8", stype="numpy.ndarray")
        info.num_bytes = self._last.payload_bytes
        yield Frame(header=self._last)
        chunk = [memoryview(bytes(wire.TO_CLIENT.chunk_bytes))]
        for _ in range(self._more // wire.TO_CLIENT.chunk_bytes):
            if self._ended.is_set() or not context.is_active():
                return
            yield chunk
        self._ended.wait(SECONDS)


def most_memory(process: Process) -> float:
    """MB that a process holds at most until it ends."""
    peak, end = 0.0, time.monotonic() + SECONDS
    while process.popen.poll() is None and time.monotonic() < end:
        with contextlib.suppress(ValueError, OSError):
            peak = max(peak, peak_memory_mb(process.popen.pid))
        time.sleep(0.02)
    return peak


def made(folder: Path) -> Path:
    """The folder, which is there now."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


ATTACKS = {
    "names of code in the run's configuration": names_of_code,
    "paths in the run's configuration": paths,
    "lengths of 2^63, and 2 GB": lengths_without_bound,
    "words of a false server": words,
    "hand-outs that fill the disk": hand_outs,
    "results of other runs": results_of_other_runs,
    "models that are handed out": handed_out_models,
    "delivered files that grow": delivered_bombs,
    "delivered files that lead elsewhere": delivered_links,
    "delivered files with code": delivered_code,
    "each crafted file in a process with bounds": crafted_files_in_a_process,
}
"""Name -> attack."""
