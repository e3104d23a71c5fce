"""Faults of the network: cut, stalled, delayed and truncated connections."""

import time

from processes import until
from proxy import DOWN, UP, Proxy

from faults.stage import Stage, Verdict

LARGE = 1_000_000
"""Float32 numbers: 4 MB, so that a connection can break in the middle of a message."""


def begin(stage: Stage) -> tuple[Proxy, object]:
    """A run in which client 0 comes through a proxy, in its second round."""
    stage.serve()
    proxy = stage.proxy()
    client = stage.join(0, address=proxy.address)
    stage.others(1, 2)
    stage.reach(1)
    return proxy, client


def cut_while_training(stage: Stage) -> Verdict:
    """A reply that was computed while there was no connection is delivered."""
    proxy, client = begin(stage)
    stage.train(client)
    proxy.cut(reset=True)
    return stage.verdict(stage.recovered(time.monotonic()), client)


def cut_in_reply(stage: Stage) -> Verdict:
    """In the middle of 4 MB from the client."""
    stage.size = LARGE
    proxy, client = begin(stage)
    return _broken(stage, proxy, client, UP)


def cut_in_message(stage: Stage) -> Verdict:
    """In the middle of 4 MB to the client."""
    stage.size = LARGE
    proxy, client = begin(stage)
    return _broken(stage, proxy, client, DOWN)


def truncated(stage: Stage) -> Verdict:
    """Three times, after few bytes of a chunk, in both directions."""
    proxy, client = begin(stage)
    started = time.monotonic()
    for count, direction in ((1, UP), (5, DOWN), (40, UP)):
        before = proxy.accepted
        proxy.truncate(count, direction)
        _until_again(proxy, before)
    return stage.verdict(stage.recovered(started), client)


def cut_many_times(stage: Stage) -> Verdict:
    """Ten times, every 0.2 s, whatever is under way."""
    stage.size = LARGE
    proxy, client = begin(stage)
    started = time.monotonic()
    for number in range(10):
        time.sleep(0.2)
        proxy.cut(reset=number % 2 == 0)
    return stage.verdict(stage.recovered(started), client)


def half_open(stage: Stage) -> Verdict:
    """Nothing passes any more and nobody is told; pings (here every 2 s) find out."""
    proxy, client = begin(stage)
    stage.train(client)
    proxy.stall()
    return stage.verdict(stage.recovered(time.monotonic()), client)


def half_open_one_way(stage: Stage) -> Verdict:
    """The client is heard by nobody, but hears."""
    proxy, client = begin(stage)
    stage.train(client)
    proxy.stall(UP)
    return stage.verdict(stage.recovered(time.monotonic()), client)


def slow(stage: Stage) -> Verdict:
    """Each 64 kB take 10 ms longer, in each direction."""
    stage.size = LARGE
    proxy, client = begin(stage)
    proxy.delay = 0.01
    return stage.verdict(stage.recovered(time.monotonic()), client)


def _broken(stage: Stage, proxy: Proxy, client: object, direction: str) -> Verdict:
    before = proxy.accepted
    proxy.cut_after(1_500_000, direction)
    _until_again(proxy, before)
    return stage.verdict(stage.recovered(proxy.last_cut), client)


def _until_again(proxy: Proxy, before: int) -> None:
    """Wait until the client has made a new connection: the fault has happened."""
    until(lambda: proxy.accepted > before, "the connection breaks and is made again", 30)
