"""Who may not join, and who does not speak the language, while a run goes on that must not notice."""

import contextlib
import random
import socket
import statistics
import threading
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import grpc
from processes import Process

from faults.stage import Stage, Verdict
from fedkeras.reports.history import read_rows
from fedkeras.runtime import certificates, wire
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import (
    ArrayInfo,
    Arrays,
    Frame,
    Goodbye,
    Header,
    Hello,
    Join,
    Proof,
    Record,
    Settled,
    Value,
    Values,
)
from fedkeras.runtime.passphrase import Access

FRAMES = 1000
STRANGERS = 200
ALLOWED = 1.2
"""A round may take so much longer while strangers are at the door."""


def wrong_passphrase(stage: Stage) -> Verdict:
    """The client ends with status 2, and so does one without any; the run goes on."""
    right, wrong = _secret(stage, "right"), _secret(stage, "wrong")
    stage.serve("--passphrase-file", right)
    stage.others(0, 1, 2, flags=("--passphrase-file", right))
    stage.reach(1)
    started = time.monotonic()
    refused = [stage.join(1, "--passphrase-file", wrong), stage.join(1)]
    return _refused(stage, started, refused, "passphrase")


def wrong_authority(stage: Stage) -> Verdict:
    """The client trusts another authority than the one that signed the server's certificate."""
    other = stage.start.folder / "other-ca.pem"
    other.write_bytes(certificates.new_authority().certificate_pem())
    ca, *flags = _certificates(stage, datetime.now(UTC))
    stage.serve(*flags)
    stage.others(0, 1, 2, flags=("--tls-ca", ca))
    stage.reach(1)
    started = time.monotonic()
    return _refused(stage, started, [stage.join(1, "--tls-ca", other, "--max-wait", 10)], "")


def expired_certificate(stage: Stage) -> Verdict:
    """It expires while the run goes on: who is connected stays; who comes now is told why it cannot be."""
    stage.train_seconds, stage.rounds = 0.5, 80
    moments = 25.0  # for the clients to join
    born = datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=moments)
    started = time.monotonic()
    ca, *flags = _certificates(stage, born)
    stage.serve(*flags)
    stage.others(0, 1, 2, flags=("--tls-ca", ca))
    stage.reach(1)
    time.sleep(max(0.0, moments + 1 - (time.monotonic() - started)))
    started = time.monotonic()
    return _refused(stage, started, [stage.join(1, "--tls-ca", ca, "--max-wait", 10)], "expired")


def garbage(stage: Stage) -> Verdict:
    """1,000 random and mutated frames, half of them from a client 3 that was let in, and bytes that are no HTTP/2."""
    stage.rounds, stage.train_seconds, stage.partitions = 12, 0.3, 4
    # Client 3 comes and goes and never does its part, which is its failure; so there is nothing to wait for.
    stage.serve("--min-available-nodes", 3, "--reconnect-grace", 0.1, "--rest-after", 0)
    stage.others(0, 1, 2)
    stage.reach(1)
    chance, started, sent = random.Random(2026), time.monotonic(), 0
    while sent < FRAMES:
        _raw_bytes(stage, chance)
        with grpc.insecure_channel(stage.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            join = channel.stream_stream(wire.METHOD)
            for _ in range(10):
                frames = [_frame(chance) for _ in range(chance.choice([1, 1, 1, 3]))]
                sent += len(frames)
                if chance.random() < 0.5:
                    frames[:0] = [frame.SerializeToString() for frame in (_hello(), Frame(join=Join(cids=[3])))]
                with contextlib.suppress(grpc.RpcError):
                    # Without an answer in a while it is a frame that makes the server wait for more, as it should
                    list(join(iter(frames), timeout=0.2))
    seconds = time.monotonic() - started
    verdict = stage.verdict(0.0)
    return Verdict(verdict.survived, 0.0, verdict.note or f"{sent} frames in {seconds:.1f} s")


def silent_strangers(stage: Stage) -> Verdict:
    """200 connections that never show who they are: half say nothing at all, half open a stream and wait.

    Of the rounds the faster half counts, by its median: other work on the machine slows some, strangers slow all.
    """
    stage.rounds, stage.train_seconds, stage.size = 120, 0.1, 250_000
    right = _secret(stage, "right")
    stage.serve("--passphrase-file", right)
    stage.others(0, 1, 2, flags=("--passphrase-file", right))
    stage.reach(25)
    with contextlib.ExitStack() as stack:
        for _ in range(STRANGERS // 2):
            stack.enter_context(socket.create_connection(("127.0.0.1", stage.port)))
            stack.enter_context(_waiting_stream(stage.address))
        first = stage.done() + 2
        stage.reach(stage.rounds)
        verdict = stage.verdict(0.0)
    seconds = round_seconds(stage.run_folder)
    before, beside = (statistics.quantiles(some, n=4)[0] for some in (seconds[5:25], seconds[first:]))
    note = f"{before:.3f} s a round before, {beside:.3f} s beside {STRANGERS} strangers ({beside / before:.2f} x)"
    if not verdict.survived:
        return verdict
    return Verdict(beside <= ALLOWED * before, 0.0, note)


def round_seconds(folder: Path) -> list[float]:
    """Each round's seconds, training and evaluation."""
    sums: dict[int, float] = {}
    for row in read_rows(folder / "history.csv"):
        if row["client"] == "all":
            sums[row["round"]] = sums.get(row["round"], 0.0) + float(row["seconds"])
    return list(sums.values())


@contextlib.contextmanager
def _waiting_stream(address: str):
    """A stream, encrypted as the server's, whose client says nothing; a thread of gRPC's waits with it."""
    channel, _ = ClientChannel(address, Access("no passphrase of theirs")).open()
    with channel:
        end = threading.Event()
        call = channel.stream_stream(wire.METHOD)(iter(lambda: end.wait() and None, None))
        try:
            yield
        finally:
            end.set()
            call.cancel()


def _secret(stage: Stage, name: str) -> Path:
    """A file with a passphrase."""
    path = stage.start.folder / name
    path.write_text(f"{name} horse battery staple\n")
    path.chmod(0o600)
    return path


def _certificates(stage: Stage, born: datetime) -> tuple:
    """(authority's file, server flags...) with a server's certificate that is valid for a day from `born`."""
    authority = certificates.new_authority()
    server = certificates.new_server(authority, ["127.0.0.1"], now=born, days=1)
    ca, cert, key = (stage.start.folder / name for name in ("ca.pem", "server.pem", "server.key"))
    ca.write_bytes(authority.certificate_pem())
    cert.write_bytes(server.certificate_pem())
    key.write_bytes(server.key_pem())
    key.chmod(0o600)
    return ca, "--tls-cert", cert, "--tls-key", key


def _refused(stage: Stage, started: float, refused: list[Process], word: str) -> Verdict:
    """These clients end with status 2 and one line that has `word` in it; the run does not notice."""
    statuses = [process.ended(30) for process in refused]
    seconds = time.monotonic() - started
    for process, status in zip(refused, statuses, strict=True):
        if status != 2 or word not in process.err or len(process.err.splitlines()) != 1:
            return Verdict(False, seconds, f"status {status}: {process.err}")
    return stage.verdict(seconds)


def _raw_bytes(stage: Stage, chance: random.Random) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", stage.port), timeout=5) as peer:
        opening = chance.choice([b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
        peer.sendall(opening + chance.randbytes(200))


def _frame(chance: random.Random) -> bytes:
    """A frame as it should be, one with some bytes changed, cut or repeated, or random bytes."""
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(100))
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.choice([0, 1, 1, 2, 8])):
        place = chance.randrange(len(data) + 1)
        change = chance.choice([0, 0, 0, 0, 1, 2, 3])
        if change == 0 and place < len(data):
            data[place] = chance.randrange(256)
        elif change == 1:
            data[place:place] = chance.randbytes(chance.randrange(1, 9))
        elif change == 2:
            del data[place:]
        else:
            data[place:place] = data[: chance.randrange(50)]
    return bytes(data)


def _hello(**own: object) -> Frame:
    told = {"protocol": wire.PROTOCOL, "version": version("fedkeras")}
    return Frame(hello=Hello(**(told | own)))


def _seeds() -> list[bytes]:
    info = ArrayInfo(name="w", dtype="float32", shape=[100], stype="numpy.ndarray", num_bytes=528)
    records = [
        Record(name="arrays", arrays=Arrays(arrays=[info])),
        Record(name="metrics", metrics=Values(values=[Value(name="num-examples", type=Value.INTEGER, integers=[3])])),
    ]
    header = Header(
        message_id="a", reply_to_message_id="b" * 32, cid=1, message_type="train", payload_bytes=528, records=records,
        digest=bytes(32),
    )  # fmt: skip
    frames = [
        _hello(),
        _hello(share=b"\4" + bytes(64)),
        Frame(join=Join(cids=[1 << 31], shared=True)),
        Frame(join=Join(session=b"x" * 16, held=["a", "b" * 1000])),
        Frame(join=Join(cids=list(range(1000)))),
        Frame(proof=Proof(mac=bytes(32))),
        Frame(header=header),
        Frame(settled=Settled(message_id="a")),
        Frame(goodbye=Goodbye(finished=True)),
    ]
    return [frame.SerializeToString() for frame in frames] + [wire.serialise([memoryview(bytes(528))]), b""]


SEEDS = _seeds()
