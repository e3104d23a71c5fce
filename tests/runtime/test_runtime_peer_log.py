"""Lines about peers: enough to see what they do, and no more, however fast they do it."""

import logging

import pytest

from fedkeras.runtime.endpoints import network_of
from fedkeras.runtime.mailbox import LATE_LINES, Mailbox
from fedkeras.runtime.peer_log import ADDRESSES, LINES_AT_ONCE, LimitedLines, PeerLog


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture):
    """The messages that were logged."""
    caplog.set_level(logging.INFO, "fedkeras")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:77", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:ffff::1%5D:77", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:5", "fe80::/64"),
        ("ipv6:[::ffff:10.0.0.1]:5", "10.0.0.1"),
        ("unix:", "unix:"),
        ("what is this", "what is this"),
    ],
)
def test_an_address_is_an_ipv4_address_or_a_network_of_ipv6(peer: str, address: str):
    assert network_of(peer) == address


def test_of_a_stranger_there_is_a_line_each_five_seconds_which_counts_the_others(clock, lines):
    log = PeerLog(3, clock)
    for port in range(1000):
        log.about_stranger(f"ipv4:10.0.0.1:{port}", "refused %s", "it")
    clock.now = 5.0
    log.about_stranger("ipv4:10.0.0.1:1", "refused %s", "it")
    log.about_stranger("ipv4:10.0.0.2:1", "refused %s", "another")
    assert lines() == [
        "refused it", "refused it (999 more lines about 10.0.0.1 are left out)", "refused another",
    ]  # fmt: skip


def test_strangers_from_everywhere_write_one_line_a_second_between_them(clock, lines):
    log = PeerLog(3, clock)
    for second in range(100):
        clock.now = float(second)
        for number in range(50):
            log.about_stranger(f"ipv6:[2001:db8:{second}:{number}::1]:1", "refused")
    assert 100 <= len(lines()) <= 110


def test_clients_that_join_together_are_all_told_of_and_one_that_does_nothing_else_is_not(clock, lines):
    log = PeerLog(300, clock)
    for number in range(300):
        log.about_client(logging.INFO, f"ipv4:10.0.0.1:{number}", "client %d joined", number)
    assert lines() == [f"client {number} joined" for number in range(300)]
    for _ in range(14_000):
        log.about_client(logging.WARNING, "ipv4:10.0.0.1:1", "client 0 leaves")
    assert len(lines()) == 20 + 4 * 300
    log.about_client(logging.INFO, "ipv4:10.0.0.2:1", "client 1 joined")
    assert lines()[-1] == "client 1 joined", "who is at another address is told of all the same"


def test_the_addresses_that_are_remembered_are_bounded(clock):
    log = PeerLog(3, clock)
    for number in range(2 * ADDRESSES):
        log.about_stranger(f"ipv4:{number}:1", "refused")
    assert len(log._allowances) == ADDRESSES


def test_late_answers_fill_no_log(lines):
    from flwr.app import Error, Message, RecordDict

    from fedkeras.flower.identity import act_as, node_id_of

    act_as(1, 1)
    mailbox, message = Mailbox(), Message(RecordDict(), node_id_of(0), "query.echo")
    for _ in range(3 * LATE_LINES):
        mailbox.deliver(Message(Error(0, ""), reply_to=message))
    assert len(lines()) == LATE_LINES


def test_a_server_that_sends_its_client_away_again_and_again_fills_no_terminal(clock):
    said: list[str] = []
    report = LimitedLines(said.append, clock)
    for number in range(1000):
        report(f"lost the connection {number}")
    clock.now = 2.0
    report("lost the connection for good")
    assert said[:LINES_AT_ONCE] == [f"lost the connection {number}" for number in range(LINES_AT_ONCE)]
    assert said[LINES_AT_ONCE:] == ["lost the connection for good (970 more lines are left out)"]
