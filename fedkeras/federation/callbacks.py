"""What a live view is told while a round is under way; the loop's callbacks come only when one is over."""

from collections.abc import Iterable, Mapping


class Callback:
    """Does nothing: a view overrides what it shows. Called from the round loop's thread, which it must not hold up."""

    def connected(self, cids: Iterable[int], needed: int) -> None:
        """These clients are connected, of so many that are waited for."""

    def began(self, server_round: int, phase: str, asked: Iterable[int], resting: Iterable[int]) -> None:
        """A phase (train or evaluate) of a round, or of its repetition, begins: who is asked, and who rests."""

    def answered(self, cid: int, line: Mapping[str, object]) -> None:
        """A client's good answer has arrived: its line of history.csv."""

    def failed(self, cid: int, reason: str) -> None:
        """A client gives no good answer in this phase."""


UNWATCHED = Callback()
