"""Who sits between a server and its clients, listens, pretends to be one of them, or comes from yesterday.

The attacker is this process; the server and the clients are real ones, who know a passphrase that it does not.
"""

import contextlib
import hashlib
import queue
import socket
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from importlib.metadata import version
from pathlib import Path

import grpc
from faults.stage import initial, stage
from processes import ROOT, Process, Starter, starting, until
from proxy import DOWN, UP, Proxy

from benchmarks.attacks.outcome import Outcome, memory_mb
from fedkeras.runtime import wire
from fedkeras.runtime.certificates import der, new_self_signed
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello, Proof, Welcome
from fedkeras.runtime.handshake import IDENTITIES, Login, password_of
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.spake2 import Spake2

SECRET = "correct horse battery staple"
GUESSES = [*(f"correct horse battery staples {number}" for number in range(14)), SECRET]
"""A dictionary that has the right one."""

Answer = Callable[[Iterator[Frame]], Iterator[Frame]]


def relay_with_its_own_certificate(folder: Path) -> Outcome:
    """It ends the client's TLS, opens its own to the server, and passes the login through, each frame as it comes."""
    return _relayed(folder, encrypt=True)


def relay_in_plaintext(folder: Path) -> Outcome:
    """The same, but it offers the client no encryption at all."""
    return _relayed(folder, encrypt=False)


def listener(folder: Path) -> Outcome:
    """Records a whole run's connections, and looks for weights, passphrase and run configuration in the record."""
    secret = _secret(folder)
    with stage(_made(folder / "run"), rounds=2, size=20_000, train_seconds=0.0) as play:
        play.serve("--passphrase-file", secret)
        proxy = play.proxy(record=True)
        for cid in range(3):
            play.join(cid, "--passphrase-file", secret, address=proxy.address)
        verdict = play.verdict(0.0)
        recorded = bytes(proxy.recorded[UP] + proxy.recorded[DOWN])
    assert verdict.survived, verdict.note
    assert len(recorded) > 3 * initial(play.size).nbytes, "the record has the weights, encrypted"
    sought = {"passphrase": SECRET.encode(), "weights": initial(play.size).tobytes()[1000:1032]}
    sought |= {"run configuration": b"num-partitions", "protocol": wire.METHOD.encode()}
    found = [what for what, part in sought.items() if part in recorded]
    return Outcome(not found, f"{len(recorded) / 1e6:.1f} MB recorded, found: {', '.join(found) or 'nothing'}")


def guesses_at_a_collected_login(folder: Path) -> Outcome:
    """A false server takes part in one login with one guess, and tries 15 more, the right one too, on what it got.

    First it guesses right, to see that its way of trying finds what there is to find.
    """
    hits = {}
    for guess in (SECRET, "a guess"):
        collected: list[tuple[Spake2, bytes, bytes]] = []

        def answer(frames: Iterator[Frame], guess=guess, collected=collected) -> Iterator[Frame]:
            side = Spake2(False, password_of(guess), IDENTITIES, secret=_NUMBER)
            share = next(frames).hello.share
            yield Frame(challenge=Challenge(share=side.share))
            collected.append((side, share, next(frames).proof.mac))
            yield Frame(proof=Proof(mac=bytes(32)))

        false = FalseServer(answer)
        with false, starting(folder) as start:
            client = _client(start, false.address, _secret(folder))
            assert client.ended() == 2, client.err
        (login,) = collected  # one start of a client, one login
        hits[guess] = [one for one in GUESSES if _fits(one, *login, false.certificate)]
    assert hits[SECRET] == [SECRET], "the attack itself does not work"
    return Outcome(not hits["a guess"], f"{len(hits['a guess'])} of {len(GUESSES)} guesses could be told from a login")


def logins_broken_off(folder: Path) -> Outcome:
    """A false server takes each login's proof and hangs up: as many guesses as the client comes back."""

    def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
        next(frames)
        yield Frame(challenge=Challenge(share=Login("a guess", b"", client=False).share))
        next(frames)

    false = FalseServer(answer)
    with false, starting(folder) as start:
        client = _client(start, false.address, _secret(folder))
        assert client.ended(60) == 2, client.err
    return Outcome(false.streams <= 3 and _one_line(client), f"{false.streams} guesses before the client stops")


def false_ending(folder: Path) -> Outcome:
    """A false server says, before any proof, that the run is over and went well; or it sends a Welcome."""
    welcome = Welcome(run_id=1, num_partitions=1, run_config="{}", cids=[0], session=b"x" * 16)
    frames = [Frame(goodbye=Goodbye(finished=True, over=True)), Frame(welcome=welcome)]
    statuses = []
    for number, frame in enumerate(frames):
        own = _made(folder / str(number))
        with FalseServer(lambda sent, frame=frame: iter([frame])) as false, starting(own) as start:
            client = _client(start, false.address, _secret(folder))
            statuses.append(client.ended(60))
            assert _one_line(client), client.err
    return Outcome(statuses == [2, 2], f"clients ended with status {statuses}")


def invalid_points(folder: Path) -> Outcome:
    """Shares that are infinity, off the curve, of wrong length; then a client joins as ever."""
    shares = [b"", b"\0", bytes(65), b"\4" + bytes(64), b"\4" + b"\1" * 64, b"\2" + b"\5" * 32, b"x" * 10_000]
    with _guarded(folder) as (server, address, start):
        before = _settled_mb(server)
        with futures.ThreadPoolExecutor(len(shares)) as strangers:  # at once, for the answers to wrong ones are delayed
            welcomed = sum(strangers.map(lambda share: _stranger(address, share), shares))
        grown = memory_mb(server.popen.pid) - before
        client = _client(start, address, _secret(folder))
        client.said("joined")
    return Outcome(not welcomed and grown < 30, f"{len(shares)} logins, {welcomed} let in, {grown:.0f} MB more")


def replayed_login(folder: Path) -> Outcome:
    """A client's connection is recorded, and sent to the server again, byte for byte."""
    with _guarded(folder) as (_, address, start), Proxy(address, record=True) as proxy:
        client = _client(start, proxy.address, _secret(folder))
        until(lambda: "round 1 of" in _log(folder), "round 1", 60)
        client.popen.kill()
        record, host_port = bytes(proxy.recorded[UP]), address.split(":")
        for _ in range(5):
            with contextlib.suppress(OSError), socket.create_connection((host_port[0], int(host_port[1])), 5) as again:
                again.sendall(record)
                again.settimeout(2)
                while again.recv(65536):
                    pass
        until(lambda: "client 0 is gone" in _log(folder), "the end of the session", 60)
        time.sleep(0.5)
        joined = _log(folder).count("joined from") + _log(folder).count("is back")
    return Outcome(not joined, f"{len(record)} bytes sent 5 times, {joined} joined by it")


def old_versions(folder: Path) -> Outcome:
    """A client and a server of protocol 5, whose login let guesses be tried: neither is talked to."""
    old = b"\x08\x05\x12\x050.1.0\x1a\x01\x00\x2a\x20" + bytes(32)  # protocol, version, cids, nonce
    with _guarded(folder) as (_, address, _):
        channel, _ = ClientChannel(address, Access(SECRET)).open()
        with channel:
            call = channel.stream_stream(wire.METHOD)(iter([bytes([10, len(old)]) + old]), timeout=20)
            told = wire.parse(next(call)).goodbye.reason
        with grpc.insecure_channel(address) as plain:
            try:
                next(plain.stream_stream(wire.METHOD)(iter([bytes([10, len(old)]) + old]), timeout=5))
                unencrypted = True
            except grpc.RpcError:
                unencrypted = False

    chosen = b"\x0a\x20" + bytes(32) + b"\x12\x10" + bytes(16) + b"\x18\x80\x80\x02"  # nonce, salt, scrypt's n

    def challenge(frames: Iterator[Frame]) -> Iterator[Frame]:
        next(frames)
        yield Frame(challenge=Challenge.FromString(chosen))

    refused = []
    for encrypt in (True, False):
        false = FalseServer(challenge, encrypt)
        with false, starting(_made(folder / f"old-{encrypt}")) as start:
            client = _client(start, false.address, _secret(folder))
            refused.append(client.ended(60) == 2 and _one_line(client) and false.proofs == 0)
    held = "protocol 5" in told and not unencrypted and all(refused)
    return Outcome(held, f"told: {told[:60]}...; {sum(refused)} of 2 old servers refused")


ATTACKS = {
    "relay with its own certificate between client and server": relay_with_its_own_certificate,
    "relay that offers no encryption": relay_in_plaintext,
    "a run's whole traffic recorded and searched": listener,
    "passphrases tried on a login that a false server took part in": guesses_at_a_collected_login,
    "logins broken off by a false server, again and again": logins_broken_off,
    "a false server says that the run is over, or welcomes": false_ending,
    "points that are none as shares": invalid_points,
    "a recorded login sent again": replayed_login,
    "an old client, an old server": old_versions,
}

_NUMBER = int.from_bytes(hashlib.sha256(b"the attacker's own number").digest(), "big") >> 1


class FalseServer:
    """A server of the attacker's, with a certificate that it made; `answer` makes its frames of the client's."""

    def __init__(self, answer: Answer, encrypt: bool = True) -> None:
        self.streams = 0
        self.proofs = 0
        """Proofs that clients gave it."""
        own = new_self_signed()
        self.certificate = der(own.certificate) if encrypt else b""

        def noted(frames: Iterator[Frame]) -> Iterator[Frame]:
            for frame in frames:
                self.proofs += isinstance(frame, Frame) and frame.HasField("proof")
                yield frame

        def join(frames: Iterator[Frame], _: grpc.ServicerContext) -> Iterator[Frame]:
            self.streams += 1
            yield from answer(noted(frames))

        service, method = wire.METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(join, wire.parse, wire.serialise)
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        if encrypt:
            credentials = grpc.ssl_server_credentials([(own.key_pem(), own.certificate_pem())])
            self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        else:
            self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "FalseServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def _relayed(folder: Path, encrypt: bool) -> Outcome:
    seen: list[str] = []
    with _guarded(folder) as (server, address, start):

        def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
            channel, _ = ClientChannel(address, Access("unknown")).open()
            outgoing: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
            with channel:
                method = channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)
                call = method(iter(outgoing.get, None), timeout=30)
                for frame in frames:
                    seen.append(frame.WhichOneof("content"))
                    outgoing.put(frame)
                    reply = next(call)
                    seen.append(reply.WhichOneof("content"))
                    yield reply
                outgoing.put(None)

        with FalseServer(answer, encrypt) as relay:
            client = _client(start, relay.address, _secret(folder))
            status = client.ended(60)
        assert server.popen.poll() is None, server.err
    beyond = {"join", "welcome", "header"} & {*seen}
    if encrypt:
        assert {"hello", "challenge", "proof"} <= {*seen}, "the relay was not used"
    held = status == 2 and _one_line(client) and not beyond
    return Outcome(held, f"client: status {status}; passed through: {', '.join(dict.fromkeys(seen)) or 'nothing'}")


def _fits(guess: str, side: Spake2, share: bytes, mac: bytes, certificate: bytes) -> bool:
    """True if this guess explains the client's confirmation, as far as the attacker can compute it."""
    seen, other = hashlib.sha256(certificate).digest(), Spake2(False, password_of(guess), IDENTITIES, secret=_NUMBER)
    for sent in (other.share, side.share):  # the share that this guess would have made, and the one that was sent
        other.share = sent
        if other.meet(share, seen).confirm_a == mac:
            return True
    return False


def _stranger(address: str, share: bytes) -> int:
    """1 if a client with this share and no passphrase is let in."""
    channel, _ = ClientChannel(address, Access("unknown")).open()
    hello = Hello(protocol=wire.PROTOCOL, version=version("fedkeras"), share=share)
    with channel:
        sent = iter([Frame(hello=hello), Frame(proof=Proof(mac=bytes(32)))])
        try:
            frames = list(channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)(sent, timeout=20))
        except grpc.RpcError:
            return 0
    return int(any(frame.WhichOneof("content") in ("proof", "welcome") for frame in frames))


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[tuple[Process, str, Starter]]:
    """The real server with a passphrase, its address, and a starter of clients."""
    with starting(folder) as start:
        flags = ("--num-partitions", 1, "--num-server-rounds", 9, "--no-central-evaluation", "--reconnect-grace", 0)
        server, address = start.toy_server(*flags, "--passphrase-file", _secret(folder))
        yield server, address, start


def _client(start: Starter, address: str, secret: Path) -> Process:
    """A real client that knows the passphrase."""
    node = ROOT / "tests" / "runtime" / "faults" / "toy_node.py"
    return start.python(node, address, 0, "--seconds", 1.0, "--passphrase-file", secret, "--max-wait", 20)


def _log(folder: Path) -> str:
    """The run's log, which begins with its first round."""
    return "".join(path.read_text() for path in folder.glob("runs/*/run.log"))


def _settled_mb(server: Process) -> float:
    """The server's memory when it has imported all it needs."""
    sizes = [0.0]

    def settled() -> bool:
        time.sleep(1.0)
        sizes.append(memory_mb(server.popen.pid))
        return sizes[-1] - sizes[-2] < 2

    until(settled, "the server's memory at rest", 60)
    return sizes[-1]


def _one_line(client: Process) -> bool:
    return len(client.err.splitlines()) == 1


def _secret(folder: Path) -> Path:
    path = _made(folder) / "passphrase"
    path.touch(0o600)
    path.write_text(SECRET)
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    return folder
