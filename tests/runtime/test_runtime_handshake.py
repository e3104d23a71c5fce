"""The passphrase: who knows it joins, who does not learns nothing, and it never travels."""

import asyncio
import queue
import time
from collections.abc import Iterator
from concurrent import futures
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import HERE, Starter, until
from proxy import DOWN, UP, Proxy
from pseudo_terminal import Terminal, all_ended

from fedkeras.errors import UserError
from fedkeras.runtime import admission, handshake, node, wire
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Hello, Proof, Welcome
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.passphrase import VARIABLE, Access, read_passphrase

SECRET = "correct horse battery staple"


@pytest.fixture
def guarded() -> Iterator[GrpcGrid]:
    with GrpcGrid("127.0.0.1", 0, 4, {}, access=Access(SECRET), reconnect_grace=0) as grid:
        yield grid


def secret_file(folder: Path, text: str, name: str = "passphrase") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def hello(**fields: object) -> Hello:
    known = {"protocol": wire.PROTOCOL, "version": version("fedkeras"), "cids": [0], "nonce": bytes(range(32))}
    return Hello(**known | fields)


class Stranger:
    """Speaks frames, right or wrong."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._outgoing: queue.SimpleQueue = queue.SimpleQueue()
        join = self._channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)
        self._call = join(iter(self._outgoing.get, None), timeout=60)

    def say(self, **content: object) -> Frame:
        self._outgoing.put(Frame(**content))
        return next(self._call)

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self._outgoing.put(None)
        self._channel.close()


def key_of(challenge: Challenge, secret: str = SECRET) -> bytes:
    return handshake.key_for(challenge, secret)


def test_whoever_knows_the_passphrase_joins(guarded, start: Starter, tmp_path: Path, question) -> None:
    """With a line end in the file or without, from the file or from the environment; and it does not travel."""
    with Proxy(guarded.address, record=True) as proxy:
        client = start.toy(proxy.address, 0, "--passphrase-file", secret_file(tmp_path, f"{SECRET}\n"))
        until(lambda: guarded.cids(), "the client")
        assert not next(iter(guarded.send_and_receive([question(0)], timeout=60))).has_error()
        for direction in (UP, DOWN):
            assert proxy.recorded[direction]
            assert SECRET.encode() not in proxy.recorded[direction]
        guarded.stop()
        assert client.ended() == 0


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("correct horse battery staples", "the server refused this client: the passphrase is wrong"),
        (None, "demands a passphrase: give --passphrase-file or set FEDKERAS_PASSPHRASE"),
    ],
)
def test_whoever_does_not_is_refused_in_one_line(guarded, start, tmp_path, caplog, secret, reason: str) -> None:
    flags = ["--passphrase-file", secret_file(tmp_path, secret)] if secret else []
    client = start.toy(guarded.address, 0, *flags)
    assert client.ended() == 2
    (line,) = client.err.splitlines()
    assert reason in line
    assert not guarded.cids()
    if secret:
        assert "refused a client from ipv4:127.0.0.1" in caplog.text


def test_a_client_with_a_passphrase_joins_no_server_without_one(grid: GrpcGrid, start, tmp_path: Path) -> None:
    client = start.toy(grid.address, 0, "--passphrase-file", secret_file(tmp_path, SECRET))
    assert client.ended() == 2
    assert "asks for no passphrase, so it may be any" in client.err


def test_a_server_that_only_pretends_is_refused() -> None:
    """It welcomes everybody, with a proof that it has made up, or with the client's own sent back."""
    for reflect in (False, True):

        def join(requests: Iterator[Frame], _: object, reflect: bool = reflect) -> Iterator[Frame]:
            next(requests)
            yield Frame(challenge=Challenge(nonce=bytes(32), salt=bytes(16), scrypt_n=1 << 15, scrypt_r=8, scrypt_p=1))
            mac = next(requests).proof.mac
            yield Frame(welcome=Welcome(run_id=1, num_partitions=1, run_config="{}", mac=mac if reflect else bytes(32)))

        server = grpc.server(futures.ThreadPoolExecutor(2))
        service, method = wire.METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(join, wire.parse, wire.serialise)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(UserError, match="does not know the passphrase; it is not your server"):
            node.serve(lambda m, c: m, f"127.0.0.1:{port}", [0], {}, 5, access=Access(SECRET))
        server.stop(0)


@pytest.mark.parametrize(
    "challenge",
    [
        {"scrypt_n": 1 << 14}, {"scrypt_n": 1 << 24}, {"scrypt_n": (1 << 15) + 2}, {"scrypt_r": 1}, {"scrypt_r": 64},
        {"scrypt_p": 0}, {"scrypt_p": 100}, {"salt": b""}, {"salt": bytes(1000)}, {"nonce": b""},
    ],
)  # fmt: skip
def test_a_challenge_out_of_bounds_is_not_answered(challenge: dict) -> None:
    fair = {"nonce": bytes(32), "salt": bytes(16), "scrypt_n": 1 << 15, "scrypt_r": 8, "scrypt_p": 1}
    assert handshake.key_for(Challenge(**fair), SECRET)
    with pytest.raises(UserError, match="out of bounds"):
        handshake.key_for(Challenge(**fair | challenge), SECRET)


def test_a_recorded_handshake_is_worth_nothing(guarded: GrpcGrid) -> None:
    """The same Hello and the same proof, sent again: the server's nonce is another one."""
    said = hello()
    with Stranger(guarded.address) as first:
        challenge = first.say(hello=said).challenge
        mac = handshake.proof(key_of(challenge), handshake.NODE, said, challenge)
        assert first.say(proof=Proof(mac=mac)).HasField("welcome")
    until(lambda: not guarded.cids(), "its end")
    with Stranger(guarded.address) as second:
        assert second.say(hello=said).challenge.nonce != challenge.nonce
        assert second.say(proof=Proof(mac=mac)).goodbye.reason == "the passphrase is wrong"


def test_both_sides_prove_it(guarded: GrpcGrid) -> None:
    """The Welcome's proof is the server's, for these nonces; the node's own role gives another one."""
    with Stranger(guarded.address) as stranger:
        challenge = stranger.say(hello=hello()).challenge
        key = key_of(challenge)
        mac = handshake.proof(key, handshake.NODE, hello(), challenge)
        welcome = stranger.say(proof=Proof(mac=mac)).welcome
    assert handshake.proves(welcome.mac, key, handshake.SERVER, hello(), challenge)
    assert not handshake.proves(welcome.mac, key, handshake.NODE, hello(), challenge)
    assert not handshake.proves(welcome.mac, key, handshake.SERVER, hello(nonce=bytes(32)), challenge)


FIELDS = st.fixed_dictionaries({
    "cids": st.lists(st.integers(0, 9), min_size=1, max_size=3), "shared": st.booleans(), "replace": st.booleans(),
    "session": st.binary(max_size=2), "held": st.lists(st.text("ab", max_size=2), max_size=2),
    "nonce": st.binary(min_size=1, max_size=2), "protocol": st.integers(1, 3),
})  # fmt: skip


@given(FIELDS, FIELDS, st.binary(min_size=1, max_size=2), st.binary(min_size=1, max_size=2))
@settings(max_examples=300, deadline=None)
def test_a_proof_is_for_all_that_was_said(one: dict, other: dict, nonce: bytes, other_nonce: bytes) -> None:
    """No two different handshakes have the same proof, however their fields could run together."""
    first = handshake.proof(b"k" * 32, handshake.NODE, Hello(**one), Challenge(nonce=nonce))
    second = handshake.proof(b"k" * 32, handshake.NODE, Hello(**other), Challenge(nonce=other_nonce))
    assert (first == second) == (one == other and nonce == other_nonce)


@pytest.mark.parametrize("proof", [b"", b"x", bytes(32), bytes(1 << 20)])
def test_proofs_that_are_none(guarded: GrpcGrid, proof: bytes) -> None:
    with Stranger(guarded.address) as stranger:
        stranger.say(hello=hello())
        assert "passphrase" in stranger.say(proof=Proof(mac=proof)).goodbye.reason


def test_the_same_text_in_another_unicode_spelling_is_the_same_passphrase() -> None:
    assert handshake.derive("caf\u00e9", bytes(16), 1 << 15, 8, 1) == handshake.derive(
        "cafe\u0301", bytes(16), 1 << 15, 8, 1
    )


def test_wrong_passphrases_slow_down_their_own_address_and_no_other() -> None:
    """The third attempt after two wrong ones waits; right or wrong makes no difference; others do not wait."""

    async def attempts() -> list[float]:
        rate_limit, times = admission.RateLimit(), []
        for _ in range(2):
            await rate_limit.wait("10.0.0.1")
            begun = time.monotonic()
            rate_limit.note_failure("10.0.0.1")
        for address in ("10.0.0.2", "10.0.0.1", "10.0.0.1"):
            await rate_limit.wait(address)
            times.append(time.monotonic() - begun)
        return times

    other, third, fourth = asyncio.run(attempts())
    assert other < 0.49 <= third
    assert 0.99 <= fourth < 10


def test_many_guesses_at_once_are_told_to_wait() -> None:
    """Guessing side by side is no faster: attempts are admitted one after the other, and not far into the future."""

    async def attempts() -> tuple[int, float]:
        rate_limit = admission.RateLimit()
        for _ in range(8):
            rate_limit.note_failure("10.0.0.1")
        started = time.monotonic()
        rate_limit._next_attempt["10.0.0.1"] = started  # it may try now
        results = await asyncio.gather(*(rate_limit.wait("10.0.0.1") for _ in range(50)), return_exceptions=True)
        return sum(isinstance(result, admission.AdmissionRefused) for result in results), time.monotonic() - started

    refused, seconds = asyncio.run(attempts())
    assert refused == 49
    assert seconds < 1


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    rate_limit = admission.RateLimit()
    for number in range(3 * admission.ADDRESSES):
        rate_limit.note_failure(str(number))
    assert len(rate_limit._failures) == len(rate_limit._next_attempt) == admission.ADDRESSES


def test_connections_that_never_say_anything_do_not_keep_others_out(guarded, start, tmp_path: Path) -> None:
    """More of them than may wait: the oldest make room, and a client that knows the passphrase joins at once."""
    strangers = [Stranger(guarded.address) for _ in range(admission.WAITING + 20)]
    try:
        until(lambda: len(guarded._service._admission) == admission.WAITING, "strangers in their handshakes")
        client = start.toy(guarded.address, 0, "--passphrase-file", secret_file(tmp_path, SECRET))
        client.said("joined")
        assert len(guarded._service._admission) <= admission.WAITING
        until(
            lambda: not len(guarded._service._admission),
            "the strangers' time to be over",
            admission.HANDSHAKE_SECONDS + 5,
        )
    finally:
        for stranger in strangers:
            stranger.__exit__()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"a\nb\n", "more than one line"), (b"\xff", "no text"),
     (b"x" * 5000, "is it the right file"), ("long enough".encode("utf-16-le"), "UTF-16 needs its mark")],
)  # fmt: skip
def test_files_that_hold_no_passphrase(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_passphrase(str(tmp_path / "file"))


def test_where_a_passphrase_comes_from(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_passphrase("") is None
    monkeypatch.setenv(VARIABLE, "from the environment")
    assert read_passphrase("") == "from the environment"
    path = secret_file(tmp_path, "from the file \n")
    assert read_passphrase(str(path)) == "from the file"  # `echo` of Windows leaves a space
    for content in ("\ufeffgrün ist es".encode(), "grün ist es\r\n".encode("utf-16"), "gru\u0308n ist es".encode()):
        path.write_bytes(content)
        assert read_passphrase(str(path)) == "gr\u00fcn ist es"
    path.write_text("from the file\n")
    assert "others" not in caplog.text
    path.chmod(0o644)
    read_passphrase(str(path))
    assert "others on this machine can read" in caplog.text
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UserError, match="the passphrase in FEDKERAS_PASSPHRASE is empty"):
        read_passphrase("")
    with pytest.raises(UserError, match="cannot read"):
        read_passphrase(str(tmp_path / "missing"))


def test_a_person_at_the_terminal_is_asked(guarded: GrpcGrid, tmp_path: Path) -> None:
    """Without echo; and may take longer to type than the server is waited for."""
    terminal = Terminal(tmp_path, HERE / "toy_client.py", guarded.address, "0", "--max-wait", 1)
    try:
        terminal.wait("passphrase for")
        time.sleep(1.2)
        terminal.answer("", SECRET)
        terminal.wait("joined")
        guarded.stop()
        assert all_ended(terminal) == [0]
        assert SECRET not in terminal.shown
    finally:
        terminal.close()
