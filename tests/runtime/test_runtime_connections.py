"""Connections of strangers: they end, whatever they do or leave, and take little while they last."""

import asyncio
import contextlib
import gzip
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from processes import until
from raw_http2 import PING, Http2, message

from fedkeras.runtime import admission, connections, wire
from fedkeras.runtime.connections import Connections, accepted
from fedkeras.runtime.endpoints import Endpoint
from fedkeras.runtime.federation_pb2 import Frame, Hello
from fedkeras.runtime.grpc_grid import GrpcGrid


@pytest.fixture
def listening() -> Iterator[GrpcGrid]:
    """In plaintext, so that frames can be made by hand; what is looked at here comes before any passphrase."""
    with GrpcGrid("127.0.0.1", 0, 4, {}, reconnect_grace=0) as grid:
        yield grid


@pytest.fixture
def listener() -> Iterator[SimpleNamespace]:
    """A listening socket, and connections that it has accepted: as the peers that gRPC would name."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = server.getsockname()[1]

        def connect() -> SimpleNamespace:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            stack.enter_context(server.accept()[0])
            return SimpleNamespace(client=client, peer=f"ipv4:127.0.0.1:{client.getsockname()[1]}")

        yield SimpleNamespace(port=port, connect=connect)


def is_open(client: socket.socket) -> bool:
    """True unless the other side has closed it."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    return False


def test_the_accepted_connections_are_found_and_no_others(listener):
    peers = {Endpoint("127.0.0.1", listener.connect().client.getsockname()[1]) for _ in range(3)}
    assert {other for other, _ in accepted(listener.port)} == peers
    assert not dict(accepted(1))


def test_who_has_not_logged_in_goes_after_its_time_and_who_has_stays(listener):
    now = [0.0]
    watch = Connections(lambda: listener.port, 10, lambda: now[0])
    known, stranger = listener.connect(), listener.connect()
    watch.logged_in(known.peer)
    watch.look()
    now[0] = connections.STRANGER_SECONDS - 1
    watch.look()
    assert is_open(known.client) and is_open(stranger.client)
    now[0] += 2
    watch.look()
    assert is_open(known.client) and not is_open(stranger.client)
    watch.logged_out(known.peer)
    watch.look()
    assert is_open(known.client), "it has time to read the last word"
    now[0] += connections.STRANGER_SECONDS + 1
    watch.look()
    assert not is_open(known.client)


def test_of_too_many_strangers_the_oldest_go(listener):
    now = [0.0]
    watch = Connections(lambda: listener.port, 2, lambda: now[0])
    here = []
    for _ in range(5):
        here.append(listener.connect())
        now[0] += 0.1
        watch.look()
    assert [is_open(each.client) for each in here] == [False, False, False, True, True]


def test_one_is_hung_up_on(listener):
    watch = Connections(lambda: listener.port, 10)
    one, other = listener.connect(), listener.connect()
    watch.hang_up(one.peer)
    watch.hang_up("ipv4:127.0.0.1:1")
    watch.hang_up("unix:")
    assert not is_open(one.client) and is_open(other.client)


async def answer_to(port: int, data: bytes, seconds: float = 20.0, window: int = 65535, **headers: str) -> Http2:
    """Open a call, send bytes, and wait for its end or the connection's."""
    peer = await Http2.connect(port, window=window)
    peer.open_stream(1, **headers)
    await peer.send(1, data)
    deadline = time.monotonic() + seconds
    while not peer.ended and not peer.closed.is_set() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    peer.abort()
    return peer


def hello(size: int) -> bytes:
    return Frame(hello=Hello(version="x" * size)).SerializeToString()


def test_long_frames_before_the_login_are_refused_by_their_length(listening, monkeypatch):
    """They are never parsed, which takes many times as much memory."""
    monkeypatch.setattr(admission.wire, "parse", lambda data: pytest.fail("it was parsed"))
    size = admission.LOGIN_FRAME_BYTES
    for payload in (hello(size), b"\xff" * (size + 1), hello(wire.TO_SERVER.chunk_bytes - 10)):
        peer = asyncio.run(answer_to(listening.port, message(payload)))
        assert b"bytes before it had logged in; at most 16384 are taken" in peer.received[1]


def test_frames_beyond_the_largest_are_refused_by_grpc(listening):
    peer = asyncio.run(answer_to(listening.port, message(hello(wire.TO_SERVER.max_frame_bytes + 1))))
    assert peer.ended and not peer.received


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_messages_are_refused(listening, encoding: str):
    """10 MB in 10 kB: gRPC would unpack it before anything else is looked at."""
    bomb = message(gzip.compress(hello(10_000_000)), compressed=True)
    peer = asyncio.run(answer_to(listening.port, bomb, grpc_encoding=encoding))
    assert peer.ended and not peer.received


def test_who_does_not_read_its_goodbye_is_hung_up_on(listening):
    """With a window of zero, and pings answered, gRPC alone would keep the connection for ever."""
    peer = asyncio.run(answer_to(listening.port, message(hello(10)), window=0))
    assert peer.closed.is_set() and not peer.ended


def test_a_flood_of_pings_ends_its_connection(listening):
    async def flood() -> Http2:
        peer = await Http2.connect(listening.port)
        peer.open_stream(1)
        for _ in range(30):
            peer.frame(PING, 0, 0, bytes(8))
        await asyncio.wait_for(peer.closed.wait(), 20)
        peer.abort()
        return peer

    assert asyncio.run(flood()).closed.is_set()


def test_a_connection_has_one_call_at_a_time(listening):
    async def calls() -> Http2:
        peer = await Http2.connect(listening.port)
        peer.open_stream(1)
        await asyncio.sleep(0.3)  # the server's settings, which say so, have arrived
        for _ in range(500):
            peer.open_stream(3)
            await asyncio.sleep(0.02)
            if peer.closed.is_set() or 3 in peer.ended:
                break
        peer.abort()
        return peer

    peer = asyncio.run(calls())
    assert peer.closed.is_set() or peer.ended.keys() == {3}


def test_silent_connections_end_and_leave_descriptors_free(listening, monkeypatch):
    """More than may wait at once: the oldest go at the next look, the others when their time is over."""
    monkeypatch.setattr(connections, "STRANGER_SECONDS", 3.0)
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", listening.port)))
            for _ in range(connections.MOST_STRANGERS + 20)
        ]
        until(lambda: sum(not is_open(each) for each in silent) >= 20, "those beyond them to go", 20)
        until(lambda: not list(accepted(listening.port)), "all to go", 20)
