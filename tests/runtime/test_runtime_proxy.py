"""The proxy that the tests of faults rely on, with a plain echo server behind it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from processes import until
from proxy import DOWN, UP, Proxy

SHORT = 0.3


@contextlib.contextmanager
def echoing(answer: bytes = b"") -> Iterator[str]:
    """An echo server, which says `answer` first; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.sendall(answer)
            while data := peer.recv(1 << 16):
                peer.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with echoing() as server, Proxy(server, record=True) as listening:
        yield listening


def connect(proxy: Proxy) -> socket.socket:
    host, port = proxy.address.split(":")
    peer = socket.create_connection((host, int(port)), timeout=10)
    until(lambda: proxy.connections, "the connection", 5)
    return peer


def read(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            break
        data += part
    return data


def is_silent(peer: socket.socket) -> bool:
    peer.settimeout(SHORT)
    try:
        return peer.recv(1) is None
    except TimeoutError:
        return True
    finally:
        peer.settimeout(10)


def test_bytes_pass_both_ways_and_are_recorded(proxy: Proxy) -> None:
    data = bytes(range(256)) * 2000
    with connect(proxy) as peer:
        threading.Thread(target=peer.sendall, args=(data,)).start()
        assert read(peer, len(data)) == data
    assert proxy.recorded == {UP: data, DOWN: data}
    assert proxy.passed == {UP: len(data), DOWN: len(data)}
    until(lambda: not proxy.connections, "the end of the connection", 5)


@pytest.mark.parametrize("reset", [False, True])
def test_cut(proxy: Proxy, reset: bool) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        until(lambda: proxy.connections == 2, "both", 5)
        proxy.cut(reset)
        assert not proxy.connections
        for peer in (one, other):
            if reset:
                with pytest.raises(ConnectionResetError):
                    peer.recv(1)
            else:
                assert peer.recv(1) == b""
    with connect(proxy) as again:
        again.sendall(b"x")
        assert read(again, 1) == b"x"


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_cut_in_the_middle(proxy: Proxy, direction: str) -> None:
    """The tenth byte still comes through; of those on their way back some may be lost with the connection."""
    with connect(proxy) as peer:
        proxy.cut_after(10, direction)
        peer.sendall(b"abcdefg")
        assert read(peer, 7) == b"abcdefg"
        peer.sendall(b"hijklmn")
        with contextlib.suppress(ConnectionResetError):
            assert b"hij".startswith(read(peer, 7))
    assert proxy.recorded[direction] == b"abcdefghij"
    with connect(proxy) as again:
        again.sendall(b"once only")
        assert read(again, 9) == b"once only"


def test_truncate(proxy: Proxy) -> None:
    with connect(proxy) as peer:
        proxy.truncate(3, DOWN)
        peer.sendall(b"abcdef")
        assert read(peer, 6) == b"abc"


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_stall_holds_bytes_back(proxy: Proxy, direction: str) -> None:
    with connect(proxy) as peer:
        proxy.stall(direction)
        peer.sendall(b"abc")
        assert is_silent(peer)
        if direction == DOWN:
            until(lambda: proxy.passed[UP] == 3, "the bytes that may pass")
        else:
            assert proxy.passed[UP] == 0
        proxy.go_on()
        assert read(peer, 3) == b"abc"


def test_stall_hides_the_end_of_a_connection() -> None:
    """As when a machine vanishes: the one side is closed, the other is not told; a new connection passes."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, Proxy(f"127.0.0.1:{listener.getsockname()[1]}") as proxy:
        peer = connect(proxy)
        accepted, _ = listener.accept()
        proxy.stall()
        peer.close()
        assert is_silent(accepted)
        with connect(proxy):
            listener.accept()[0].close()
        proxy.go_on()
        assert accepted.recv(1) == b""
        accepted.close()


def test_stop_while_stalled() -> None:
    with echoing() as server, Proxy(server) as proxy:
        peer = connect(proxy)
        proxy.stall()
        peer.sendall(b"abc")
    assert peer.recv(1) == b""
    peer.close()


def test_delay(proxy: Proxy) -> None:
    proxy.delay = 0.1
    started = time.monotonic()
    with connect(proxy) as peer:
        peer.sendall(b"abc")
        assert read(peer, 3) == b"abc"
    assert time.monotonic() - started >= 0.2


def test_refuse(proxy: Proxy) -> None:
    """What is connected stays so."""
    with connect(proxy) as peer:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        peer.sendall(b"x")
        assert read(peer, 1) == b"x"
        address = proxy.address
        proxy.accept()
        assert proxy.address == address
        connect(proxy).close()


def test_the_target_may_move(proxy: Proxy) -> None:
    with echoing(b"new") as elsewhere, connect(proxy):
        proxy.target = elsewhere
        with connect(proxy) as peer:
            assert read(peer, 3) == b"new"


def test_a_target_that_is_not_there(proxy: Proxy) -> None:
    proxy.target = "127.0.0.1:1"
    host, port = proxy.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        assert peer.recv(1) == b""
