"""Wrong passphrases are bounded for all strangers together, and lock nobody out."""

import asyncio
import time

import pytest

from fedkeras.errors import UserError
from fedkeras.runtime import admission, guesses, handshake, node
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import Join
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.guesses import A_MINUTE, IN_TURN, IN_TURN_OF_NETWORK, NETWORKS, Guesses, TooManyGuesses
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.server_connection import ServerConnection, Unreachable
from fedkeras.runtime.sessions import Sessions
from fedkeras.runtime.tls import server_channel

SECRET = "correct horse battery staple"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def passes(self, bound: Guesses, seconds: float) -> None:
        """So long, and then whoever has a turn gets it."""
        self.now += seconds
        bound._grant()
        await asyncio.sleep(0.01)


def with_clock(play) -> None:
    """Run `play(bound, clock)` in a loop of its own."""

    async def run() -> None:
        clock = Clock()
        await play(Guesses(clock), clock)

    asyncio.run(run())


async def wait_for_turn(bound: Guesses, order: list[str], network: str, name: str) -> None:
    try:
        await bound.turn(network)
        order.append(name)
    except TooManyGuesses:
        order.append(f"{name} sent away")


async def use_up(bound: Guesses, network: str) -> None:
    for _ in range(A_MINUTE):
        await bound.turn(network)
        bound.wrong(network)


def test_twenty_wrong_ones_a_minute_from_everywhere_together() -> None:
    async def play(bound: Guesses, clock: Clock) -> None:
        looked_at, waiting = [], []
        for second in range(121):
            for number in range(5):  # from a new network each time
                name = f"2001:db8:{second}:{number}::/64"
                waiting.append(asyncio.ensure_future(wait_for_turn(bound, looked_at, name, name)))
                await asyncio.sleep(0)
            clock.now += 1
            bound._grant()
        assert len([name for name in looked_at if "away" not in name]) == A_MINUTE + 2 * A_MINUTE
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not bound._waiting

    with_clock(play)


def test_right_ones_wait_for_nothing() -> None:
    """Three hundred clients that join together, all from one address."""

    async def play(bound: Guesses, clock: Clock) -> None:
        for _ in range(300):
            await asyncio.wait_for(bound.turn("10.0.0.1"), 1)
            bound.right()
        assert clock.now == 0

    with_clock(play)


def test_whose_turn_it_is_when_too_many_were_wrong() -> None:
    """First who comes from where nobody guessed; then the newest, though it comes from where they guess."""

    async def play(bound: Guesses, clock: Clock) -> None:
        await use_up(bound, "10.0.0.1")
        order: list[str] = []
        here, there = "10.0.0.1", "10.0.0.2"
        names = [(here, "a guess"), (there, "a neighbour"), (here, "another"), (here, "the client")]
        tasks = [asyncio.ensure_future(wait_for_turn(bound, order, *each)) for each in names]
        await asyncio.sleep(0)
        await clock.passes(bound, 2.9)
        assert order == []
        await clock.passes(bound, 0.2)
        assert order == ["a neighbour"]
        bound.right()  # which gives its turn back, and the next comes at once
        await asyncio.sleep(0.01)
        assert order == ["a neighbour", "the client"]
        await clock.passes(bound, 6)
        assert order == ["a neighbour", "the client", "another", "a guess"]
        assert all(task.done() for task in tasks)

    with_clock(play)


def test_those_who_wait_are_bounded_and_the_oldest_of_the_busiest_network_goes() -> None:
    async def play(bound: Guesses, clock: Clock) -> None:
        await use_up(bound, "10.0.0.1")
        order: list[str] = []
        tasks = [
            asyncio.ensure_future(wait_for_turn(bound, order, "10.0.0.1", str(number)))
            for number in range(IN_TURN_OF_NETWORK + 2)
        ]
        await asyncio.sleep(0.01)
        assert order == ["0 sent away", "1 sent away"]
        tasks += [
            asyncio.ensure_future(wait_for_turn(bound, order, f"10.0.1.{number}", f"other {number}"))
            for number in range(IN_TURN)
        ]
        await asyncio.sleep(0.01)
        assert len(bound._waiting) == IN_TURN
        assert order[2:4] == ["2 sent away", "3 sent away"], "the busiest network's"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not bound._waiting

    with_clock(play)


def test_one_that_leaves_as_its_turn_comes_leaves_it_to_the_next() -> None:
    async def play(bound: Guesses, clock: Clock) -> None:
        await use_up(bound, "10.0.0.1")
        order: list[str] = []
        second = asyncio.ensure_future(wait_for_turn(bound, order, "10.0.0.1", "second"))
        await asyncio.sleep(0)
        first = asyncio.ensure_future(wait_for_turn(bound, order, "10.0.0.1", "first"))
        await asyncio.sleep(0)
        clock.now += 3.1
        bound._grant()
        first.cancel()
        await asyncio.sleep(0.01)
        assert order == ["second"] and second.done()

    with_clock(play)


def test_answers_to_wrong_ones_come_later_and_later_and_are_forgotten() -> None:
    async def play(bound: Guesses, clock: Clock) -> None:
        assert [bound.wrong("10.0.0.1") for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 8, 8]
        assert bound.wrong("10.0.0.2") == 0.25
        clock.now += guesses.FORGET_SECONDS
        assert bound.wrong("10.0.0.1") == 0.25
        for number in range(2 * NETWORKS):
            bound.wrong(str(number))
        assert len(bound._failures) == NETWORKS

    with_clock(play)


def test_a_ticket_is_of_one_session_and_one_login() -> None:
    sessions = Sessions(30.0, lambda *_: None)

    async def joined() -> bytes:
        return sessions.join(Join(cids=[0]), (0,), "ipv4:10.0.0.1:1")[0].session.name

    name = asyncio.run(joined())
    right = handshake.ticket(name, b"share")
    assert sessions.holds(right, b"share")
    assert not sessions.holds(right, b"another share")
    assert not sessions.holds(handshake.ticket(name[:8] + bytes(8), b"share"), b"share")
    assert not sessions.holds(right[:8], b"share") and not sessions.holds(b"", b"share")
    assert handshake.ticket(b"", b"share") == b""
    assert name not in right and name[8:] not in right


def test_a_client_joins_while_others_guess_from_its_address(monkeypatch) -> None:
    """All turns are used up, and one comes each 0.5 s; a client that has a session does not even wait for that."""
    monkeypatch.setattr(guesses, "A_MINUTE", 120)
    with GrpcGrid("127.0.0.1", 0, 2, {}, access=Access(SECRET), reconnect_grace=30) as grid:
        bound = grid._service._admission._guesses
        bound._left = 0.0
        with pytest.raises(UserError, match="the passphrase is wrong"):
            node.serve(lambda m, c: m, grid.address, [0], {}, 5, access=Access("a guess of mine"))
        bound._left, started = -1e9, time.monotonic()
        channel = ClientChannel(grid.address, Access(SECRET))
        monkeypatch.setattr(admission, "TURN_SECONDS", 0.2)
        with pytest.raises(Unreachable, match="too many wrong passphrases are being tried"):
            ServerConnection(grid.address, channel, SECRET, Join(cids=[1]))
        bound._left = 1.0
        first = ServerConnection(grid.address, channel, SECRET, Join(cids=[1]))
        bound._left = -1e9
        back = ServerConnection(grid.address, channel, SECRET, Join(cids=[1], session=first.welcome.session))
        assert back.welcome.resumed and time.monotonic() - started < 20
        for connection in (first, back):
            connection.close()


@pytest.mark.parametrize("insecure", [False, True])
def test_beyond_loopback_a_short_passphrase_is_refused(insecure: bool) -> None:
    for host, secret in (("127.0.0.1", "short"), ("::1", "x"), ("0.0.0.0", "twelve chars")):
        assert server_channel(host, Access(secret, insecure=insecure))
    for host in ("0.0.0.0", "::", "lab.example"):
        with pytest.raises(UserError, match=r"less than 12 characters.*`python -m fedkeras passphrase FILE`"):
            server_channel(host, Access("eleven char", insecure=insecure))
