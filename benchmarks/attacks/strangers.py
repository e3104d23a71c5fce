"""Who has no right to join: what takes the server's memory, descriptors, places for a login, and its log.

The attacker speaks HTTP/2 by hand (raw_http2.py): no honest library does what is done here.
"""

import asyncio
import contextlib
import gzip
import logging
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from faults.stage import Stage
from processes import ROOT, starting, until
from raw_http2 import Http2, any_server, message

from benchmarks.attacks.outcome import Outcome, descriptors, memory_mb
from fedkeras.errors import UserError
from fedkeras.reports.history import read_rows
from fedkeras.runtime import node, wire
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Hello, Join
from fedkeras.runtime.passphrase import Access

logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # that the server closes connections is what is looked at

MOST_MB = 64 * 1.048576
"""64 MiB: what strangers may take together."""

LARGE = 3_900_000
FLOOD_SECONDS = 6.0
SECRET = "korrekt horse battery staple"


def large_hellos(folder: Path) -> Outcome:
    """150 connections send Hello upon Hello of 3.9 MB, and of the largest size that gRPC takes at all."""
    with waiting_server(folder) as stage:
        used = [flood(stage, 75, size, window=65535) for size in (LARGE, wire.TO_SERVER.max_frame_bytes - 64)]
        return Outcome(max(used) <= MOST_MB, f"{max(used):.0f} MB at most")


def large_hellos_that_never_end(folder: Path) -> Outcome:
    """The same without the last byte, from 150 connections that read nothing."""
    with waiting_server(folder) as stage:
        used = flood(stage, 150, wire.TO_SERVER.max_frame_bytes - 64, window=0, last_byte=False)
        return Outcome(used <= MOST_MB, f"{used:.0f} MB at most")


def large_hellos_in_tls(folder: Path) -> Outcome:
    """The same through TLS, where the server demands a passphrase."""
    with waiting_server(folder, guarded=True) as stage:
        used = flood(stage, 75, wire.TO_SERVER.max_frame_bytes - 64, window=0, last_byte=False, tls=True)
        return Outcome(used <= MOST_MB, f"{used:.0f} MB at most")


def compressed_hellos(folder: Path) -> Outcome:
    """200 MB in 200 kB, compressed as gRPC would do it itself, from 20 connections."""
    bomb = message(gzip.compress(hello(200_000_000)), compressed=True)

    async def attack(stage: Stage) -> None:
        peers = [await Http2.connect(stage.port) for _ in range(20)]
        for peer in peers:
            peer.open_stream(1, grpc_encoding="gzip")
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(peer.send(1, bomb), 2)
        await asyncio.sleep(1)
        for peer in peers:
            peer.abort()

    with waiting_server(folder) as stage:
        used = most_memory(stage, lambda: attack(stage))
        return Outcome(used <= MOST_MB, f"{used:.0f} MB at most")


def silent_connections(folder: Path) -> Outcome:
    """340 connections that say nothing, made again when they end, at a server that may open 300 files."""
    with starting(folder) as start:
        stage = Stage(start, rounds=25, size=50_000, train_seconds=0.2)
        flags = ("--port", stage.port, "--no-central-evaluation", "--num-partitions", 3, "--num-server-rounds", 25)
        limited = ("bash", "-c", 'ulimit -n 300; exec "$@"', "server", sys.executable)
        stage.server = start(*limited, ROOT / "tests" / "runtime" / "toy_server.py", *flags)
        stage.server.said("listening on ")
        stage.others(*stage.cids)
        stage.reach(1)
        with silence(stage.port, 340):
            verdict = stage.verdict(0.0)
        rows = [row for row in read_rows(stage.run_folder / "history.csv") if row["client"] == "all"]
        waited = stage.server.err.count("waiting up to")
        held = verdict.survived and len(rows) == 2 * stage.rounds
        return Outcome(held, verdict.note or f"history.csv is whole; {waited} waits for a descriptor")


def half_open_handshakes(folder: Path) -> Outcome:
    """300 TLS handshakes that stop after their first message: a client joins beside them, and they end."""
    greeting = first_of_tls()
    with waiting_server(folder, guarded=True) as stage:
        before, memory = descriptors(stage.server.popen.pid), memory_mb(stage.server.popen.pid)
        with silence(stage.port, 300, greeting, again=False):
            seconds = joined_after(stage)
            used = memory_mb(stage.server.popen.pid) - memory
            started = time.monotonic()
            until(lambda: descriptors(stage.server.popen.pid) <= before + 5, "the handshakes' end", 20)
            ended = time.monotonic() - started
        held = seconds < 10 and used < MOST_MB
        return Outcome(held, f"a client joins after {seconds:.1f} s; {used:.0f} MB; all end after {ended:.0f} s")


def goodbyes_not_read(folder: Path) -> Outcome:
    """60 streams that are sent away and read nothing, while all pings are answered: they end all the same."""

    async def attack(stage: Stage) -> float:
        peers = [await Http2.connect(stage.port, window=0) for _ in range(60)]
        for peer in peers:
            peer.open_stream(1)
            await peer.send(1, message(hello(10)))
        started = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(peer.closed.wait() for peer in peers)), 15)
        seconds = time.monotonic() - started
        for peer in peers:
            peer.abort()
        return seconds

    with waiting_server(folder) as stage:
        seconds = asyncio.run(attack(stage))
        return Outcome(seconds < 15, f"they end after {seconds:.1f} s")


def wrong_passphrases(folder: Path) -> Outcome:
    """Eight attackers guess without a pause from the address of an honest client, which joins all the same."""
    with waiting_server(folder, guarded=True) as stage:
        over, guesses = threading.Event(), []

        def guess(number: int) -> None:
            while not over.is_set():
                secret = f"a guess of mine, {number} {len(guesses)}"
                guesses.append(secret)
                with contextlib.suppress(UserError):
                    node.serve(lambda m, c: m, stage.address, [2], {}, 5, access=Access(secret))

        attackers = [threading.Thread(target=guess, args=(number,), daemon=True) for number in range(8)]
        alone = joined_after(stage, cid=1)
        for attacker in attackers:
            attacker.start()
        time.sleep(6)
        seconds = joined_after(stage, cid=0) - alone
        over.set()
        for attacker in attackers:
            attacker.join(15)
        tried = sum("passphrase" in line for line in stage.log_lines())
        cost = f"{max(0.0, seconds):.1f} s later than alone, beside {len(guesses)} guesses ({tried} lines of the log)"
        return Outcome(seconds < 8, cost)


def words_of_strangers(folder: Path) -> Outcome:
    """Versions and reasons with escape sequences, forged lines and 3 MB; and as fast as they come for 6 s."""
    forged = "0.1\r\n2026-01-01 00:00:00,000 INFO    fedkeras: client 0 joined\x1b[2J\x1b]0;owned\x07\u202e\u2028"
    words = [forged, "x" * 15_000, "\x1b[31m" * 2000, "x" * LARGE]
    clients = Frame(join=Join(cids=[0])), Frame(goodbye=Goodbye(reason=forged * 3000))
    known = Frame(hello=Hello(protocol=wire.PROTOCOL, version=own_version()))

    async def strangers(stage: Stage, end: float) -> None:
        number = 0
        while time.monotonic() < end:
            await said(stage.port, [Frame(hello=Hello(version=words[number % 4]))])
            number += 1

    async def joiners(stage: Stage, end: float) -> None:
        while time.monotonic() < end:
            await said(stage.port, [known, *clients])

    async def attack(stage: Stage) -> None:
        end = time.monotonic() + FLOOD_SECONDS
        await asyncio.gather(*(strangers(stage, end) for _ in range(5)), *(joiners(stage, end) for _ in range(5)))

    with waiting_server(folder) as stage:
        asyncio.run(attack(stage))
        lines = stage.log_lines() + stage.server.err.splitlines()
        size = sum(map(len, lines))
        odd = [line for line in lines if not line.isprintable() or len(line) > 700 or not WELL_FORMED.match(line)]
        claims = sum("client 0 joined" in line and " from ipv4:" not in line and "0.1" not in line for line in lines)
        held = not odd and not claims and size < 100_000
        return Outcome(held, f"{len(lines)} lines, {size / 1000:.0f} kB, {len(odd)} of them odd, {claims} forged")


ATTACKS: dict[str, Callable[[Path], Outcome]] = {
    "a Hello of 3.9 MB on 75 connections": large_hellos,
    "the largest frame, never finished, never read": large_hellos_that_never_end,
    "the same through TLS": large_hellos_in_tls,
    "a compressed Hello that grows to 200 MB": compressed_hellos,
    "340 silent connections, 300 files": silent_connections,
    "300 half-open TLS handshakes": half_open_handshakes,
    "60 peers that never read their goodbye": goodbyes_not_read,
    "wrong passphrases from a client's address": wrong_passphrases,
    "words with escapes, forged lines, 3 MB": words_of_strangers,
}

WELL_FORMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +[\w.]+: |warning: |error: |server\.py: ")
"""How a line of run.log, or of the server's terminal, begins."""


class Waiting(Stage):
    """A server that waits for its three clients."""

    flags: tuple = ()

    def log_lines(self) -> list[str]:
        """All of run.log."""
        return "".join(path.read_text() for path in sorted(self.run_folder.glob("run.log*"))).splitlines()


@contextlib.contextmanager
def waiting_server(folder: Path, guarded: bool = False) -> Iterator[Waiting]:
    """A server without clients, in plaintext or with a passphrase."""
    with starting(folder) as start:
        stage = Waiting(start, rounds=1)
        if guarded:
            path = folder / "passphrase"
            path.write_text(SECRET)
            path.chmod(0o600)
            stage.flags = ("--passphrase-file", path)
        stage.serve(*stage.flags)
        until(lambda: list((folder / "runs").glob("*/run.log")), "the run's folder")
        time.sleep(0.5)
        yield stage


def joined_after(stage: Waiting, cid: int = 0) -> float:
    """Start an honest client; seconds from its process's start until the server knows it."""
    started = time.monotonic()
    stage.join(cid, *stage.flags)
    until(lambda: any(f"client {cid} joined" in line for line in stage.log_lines()), f"client {cid}", 60)
    return time.monotonic() - started


def flood(stage: Stage, peers: int, size: int, window: int, last_byte: bool = True, tls: bool = False) -> float:
    """Each peer sends a Hello of `size` bytes, again and again; the most MB that the server took for that."""
    data = message(hello(size))[: None if last_byte else -1]

    async def one(end: float) -> None:
        while time.monotonic() < end:
            try:
                peer = await Http2.connect(stage.port, window=window, tls=tls)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            with contextlib.suppress(TimeoutError, OSError):
                peer.open_stream(1)
                await asyncio.wait_for(peer.send(1, data), 2)
                while not peer.ended and not peer.closed.is_set() and time.monotonic() < end:
                    await asyncio.sleep(0.02)
            peer.abort()

    async def attack() -> None:
        end = time.monotonic() + FLOOD_SECONDS
        await asyncio.gather(*(one(end) for _ in range(peers)))

    return most_memory(stage, attack)


def most_memory(stage: Stage, attack: Callable[[], Awaitable[None]]) -> float:
    """The most MB that the server took above what it had, meanwhile."""
    pid, most = stage.server.popen.pid, [0.0]
    before = memory_mb(pid)

    async def watch() -> None:
        while True:
            most[0] = max(most[0], memory_mb(pid) - before)
            await asyncio.sleep(0.03)

    async def both() -> None:
        watching = asyncio.ensure_future(watch())
        await attack()
        watching.cancel()

    asyncio.run(both())
    return most[0]


def hello(size: int) -> bytes:
    """A Hello with that many bytes of a version."""
    return Frame(hello=Hello(version="x" * size)).SerializeToString()


def own_version() -> str:
    """What an honest client says it runs."""
    from importlib.metadata import version

    return version("fedkeras")


async def said(port: int, frames: list[Frame]) -> None:
    """Say this on a new connection, and wait for its end for a little."""
    try:
        peer = await Http2.connect(port)
    except OSError:
        await asyncio.sleep(0.05)
        return
    with contextlib.suppress(TimeoutError, OSError):
        peer.open_stream(1)
        for frame in frames:
            await asyncio.wait_for(peer.send(1, message(frame.SerializeToString())), 1)
        for _ in range(50):
            if peer.ended or peer.closed.is_set():
                break
            await asyncio.sleep(0.01)
    peer.abort()


def first_of_tls() -> bytes:
    """The first message of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        any_server().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def silence(port: int, count: int, greeting: bytes = b"", again: bool = True) -> Iterator[None]:
    """So many connections that say nothing after their greeting; with `again` those that end are made again."""
    over = threading.Event()

    def keep() -> None:
        here: list[socket.socket | None] = [None] * count
        first = True
        while not over.is_set():
            for place, connection in enumerate(here):
                if over.is_set() or (connection is not None and not ended(connection)) or not (first or again):
                    continue
                with contextlib.suppress(OSError):
                    here[place] = socket.create_connection(("127.0.0.1", port), timeout=2)
                    here[place].sendall(greeting)
                    here[place].setblocking(False)
            first = False
            over.wait(0.2)
        for connection in filter(None, here):
            connection.close()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def ended(connection: socket.socket) -> bool:
    """True if the other side has closed it; it is closed here then too."""
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    connection.close()
    return True
