"""Ditto: each client trains a model of its own beside the shared one, and is held near that.

T. Li, S. Hu, A. Beirami, V. Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
arXiv:2012.04221, algorithm 1. In a round a client trains the global model w as ever, and what comes of it is all that
is sent; and its own v, from where it was, by the loss plus lambda/2 * ||v - w||^2, w as it came. A client's own model
begins as the global one of the first round that it trains in.
"""

import math

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.mods.client_state import KeptState
from fedkeras.mods.personalisation.personal_mod import PersonalMod, require_count
from fedkeras.mods.personalisation.wire import TABLE, Arrays, OwnHandlers, answer, renamed, seconds_of, trained


class Ditto(PersonalMod):
    """`--mods ditto:lambda=0.1`; `epochs` of a client's own model in a round, where they are not --local-epochs."""

    name = "ditto"

    def __init__(self, lambda_: float = 0.1, epochs: int = 0, new_clients: int = 0, new_epochs: int = 1) -> None:
        super().__init__(new_clients, new_epochs)
        if isinstance(lambda_, bool) or not isinstance(lambda_, int | float) or not 0 <= lambda_ < math.inf:
            raise ValueError(f"lambda must be a number from 0 on, not {lambda_}")
        require_count("epochs", epochs, 0)
        self.strength, self.epochs = float(lambda_), epochs

    @property
    def words(self) -> str:
        """What a client's own model is."""
        return (
            f"each client trains a model of its own too, near the shared one (lambda {self.strength:g}), which never "
            "leaves it; accuracy on clients is their own models', shared_accuracy the shared one's"
        )

    def most_epochs(self, config: Config) -> int:
        """Those of a client's own model, too."""
        return max(super().most_epochs(config), self.epochs)

    def round_answer(self, handlers: OwnHandlers, table: ConfigRecord) -> Message:
        """Both models are trained, or tested; the global one alone is sent."""
        shared, state = handlers.arrays, KeptState.asked_for(table, handlers.context, "ditto")
        own = state.recall()
        if handlers.message.metadata.message_type == MessageType.EVALUATE:
            if not own:
                raise UserError("this client has not got its own model, and none to test until it has trained")
            of_shared, of_own = handlers.evaluate(shared, "shared"), handlers.evaluate(own)
            seconds = seconds_of(of_shared, of_own)
            return answer(handlers.message, of_own.content, seconds, renamed(of_shared, "shared"))
        sent = handlers.train(shared)
        kept = handlers.train(own or shared, "own model", self.epochs, self._objective, shared)
        content = {**sent.content, TABLE: ConfigRecord(state.keep(trained(kept)))}
        return answer(handlers.message, RecordDict(content), seconds_of(sent, kept))

    def newcomer(self, handlers: OwnHandlers, epochs: int) -> Arrays:
        """The global model, trained as a client's own is."""
        shared = handlers.arrays
        return trained(handlers.train(shared, "new client", epochs, self._objective, shared))

    def shared_figures(self, handlers: OwnHandlers) -> dict[str, int | float]:
        """The global model's on a new client."""
        return renamed(handlers.evaluate(handlers.arrays, "shared"), "new-shared")

    @property
    def _objective(self) -> str:
        return f"anchored:mu={self.strength!r}"
