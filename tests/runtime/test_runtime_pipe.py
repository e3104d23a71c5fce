"""A process that the server has started has a stream of its own: the same messages, without gRPC."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as some
from processes import Process, Starter, until
from tls_servers import Files, key_of

from fedkeras.runtime import wire
from fedkeras.runtime.federation_pb2 import Frame, Settled
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.pipe import AHEAD, VARIABLE, ClientPipe, ServerPipe, inherited
from fedkeras.runtime.tls_probe import Unreachable

MEGABYTES = RecordDict({"arrays": ArrayRecord({"w": Array(np.arange(3_000_000, dtype=np.float32))})})
SETTLED = Frame(settled=Settled(message_id="x" * 40))


@pytest.fixture
def patient() -> Iterator[GrpcGrid]:
    """A grid that waits long for lost clients."""
    with GrpcGrid("127.0.0.1", 0, 4, {"round": 1}, reconnect_grace=60) as grid:
        yield grid


@pytest.fixture
def client(start: Starter, patient: GrpcGrid) -> Process:
    process = start.piped_toy(patient, 0)
    process.said("joined")
    return process


def connections(process: Process) -> int:
    """How many TCP connections a process has, as the system lists its sockets (Linux)."""
    mine = Path(f"/proc/{process.popen.pid}")
    own = {str(path.readlink()) for path in (mine / "fd").iterdir() if path.is_symlink()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in (mine / "net" / name).read_text().splitlines()[1:]]
    return sum(f"socket:[{line[9]}]" in own for line in lines)


def test_it_is_asked_through_the_pipe_and_not_over_the_network(client, patient, question) -> None:
    (reply,) = patient.send_and_receive([question(0, content=MEGABYTES)], timeout=60)
    assert reply.content == MEGABYTES
    assert connections(client) == 0
    patient.stop()
    assert client.ended() == 0
    assert "finished" in client.out


def test_one_that_loses_its_pipe_comes_back_by_the_port(client, patient, question) -> None:
    """What it computes meanwhile is delivered, and it was done once."""
    (message_id,) = patient.push_messages([question(0, "wait", seconds=1.0)])
    client.said("working for client 0")
    patient._loop.call_soon_threadsafe(patient._pipes[0].close)
    client.said("connected again")
    (reply,) = until(lambda: patient.wait_for_replies([message_id], 1), "the reply")
    assert reply.content["config"]["seconds"] == 1.0
    assert client.out.count("working for client 0") == 1
    assert connections(client) == 1


def test_one_that_is_killed_is_missed_at_once(grid: GrpcGrid, start: Starter, question) -> None:
    process = start.piped_toy(grid, 0)
    process.said("joined")
    (message_id,) = grid.push_messages([question(0, "wait", seconds=600.0)])
    process.said("working")
    process.popen.send_signal(signal.SIGKILL)
    (reply,) = grid.wait_for_replies([message_id], 60)
    assert "is gone: lost its connection" in reply.error.reason


def test_a_run_that_ends_does_not_wait_for_one_that_has_said_nothing() -> None:
    with GrpcGrid("127.0.0.1", 0, 1, {}) as grid, grid.pipe() as theirs:
        grid.stop()
        theirs.settimeout(10)
        assert theirs.recv(1) == b""


def test_where_connections_are_encrypted_a_spawned_client_takes_the_port(tmp_path: Path) -> None:
    files = Files(tmp_path)
    access = Access(tls_cert=files.server, tls_key=key_of(files.server))
    assert GrpcGrid("127.0.0.1", 0, 1, {}, access=access).pipe() is None


@pytest.mark.parametrize("given", ["", "none", "999999"])
def test_a_descriptor_that_is_no_socket_is_no_pipe(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    assert inherited() is None
    assert VARIABLE not in os.environ


def test_a_pipe_is_for_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        os.set_inheritable(ours.fileno(), True)
        monkeypatch.setenv(VARIABLE, str(ours.detach()))
        with inherited() as pipe:
            assert not pipe.get_inheritable()
            pipe.send(b"x")
            assert theirs.recv(1) == b"x"
            assert inherited() is None


# The two ends without a grid


class FakeTransport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.aborted, self.reading = False, True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def serialised(frame: Frame | wire.Chunk) -> bytes:
    data = wire.serialise(frame)
    return len(data).to_bytes(4, "little") + data


def feed(pipe: ServerPipe, data: bytes, cuts: list[int]) -> None:
    """As asyncio does: as much as came, but no more than there is room for."""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        rest = data[start:end]
        while rest:
            room = pipe.get_buffer(-1)
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            pipe.buffer_updated(count)


@settings(max_examples=30, deadline=None)
@given(some.lists(some.binary(min_size=1, max_size=300), min_size=1, max_size=6), some.data())
def test_frames_come_whole_however_the_bytes_are_cut(chunks: list[bytes], data: some.DataObject) -> None:
    sent = b"".join(serialised([memoryview(chunk)]) + serialised(SETTLED) for chunk in chunks)
    cuts = sorted(data.draw(some.lists(some.integers(0, len(sent)), max_size=20)))

    async def received() -> list:
        pipe, transport = ServerPipe("spawned:1"), FakeTransport()
        pipe.connection_made(transport)
        feed(pipe, sent, cuts)
        assert transport.reading == (2 * len(chunks) < AHEAD)  # no more is taken than is asked for
        pipe.connection_lost(None)
        frames = []
        while (frame := await pipe.read()) is not grpc.aio.EOF:
            frames.append(frame)
        return frames

    frames = asyncio.run(received())
    assert [bytes(frame) for frame in frames[::2]] == chunks
    assert [wire.parse(frame) for frame in frames[1::2]] == [SETTLED] * len(chunks)


@pytest.mark.parametrize("length", [0, wire.TO_SERVER.max_frame_bytes + 1, 2**32 - 1])
def test_a_frame_of_no_possible_length_ends_the_stream_before_there_is_memory_for_it(length: int) -> None:
    async def aborted() -> bool:
        pipe, transport = ServerPipe("spawned:1"), FakeTransport()
        pipe.connection_made(transport)
        feed(pipe, length.to_bytes(4, "little"), [])
        return transport.aborted

    assert asyncio.run(aborted())


def test_the_last_frame_arrives_before_the_end() -> None:
    ours, theirs = socket.socketpair()
    chunk = [memoryview(bytes(5)) for _ in range(2000)]  # more pieces than the system takes at once
    with theirs:
        pipe = ClientPipe(ours)
        pipe.send([chunk, SETTLED])
        pipe.end()
        pipe.close()
        wanted = serialised(chunk) + serialised(SETTLED)
        assert theirs.recv(len(wanted) + 1, socket.MSG_WAITALL) == wanted


def test_a_server_that_closes_is_out_of_reach() -> None:
    ours, theirs = socket.socketpair()
    pipe = ClientPipe(ours)
    theirs.sendall(serialised(SETTLED))
    theirs.close()
    assert pipe.next() == SETTLED
    with pytest.raises(Unreachable, match="closed the connection"):
        pipe.next()
    pipe.close()


def test_a_failure_of_the_servers_end_is_told_and_ends_the_pipe(caplog, monkeypatch) -> None:
    async def fail(self: ServerPipe) -> bool:
        raise ValueError("its own fault")

    monkeypatch.setattr(ServerPipe, "begins", fail)
    with GrpcGrid("127.0.0.1", 0, 1, {}) as grid, grid.pipe() as theirs:
        theirs.settimeout(5)
        assert theirs.recv(1) == b""
        until(lambda: "its own fault" in caplog.text, "the fault in the log")
