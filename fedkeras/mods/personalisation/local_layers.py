"""Layers that stay with each client: the others are trained together, and each client is tested with its own model.

M. G. Arivazhagan, V. Aggarwal, A. K. Singh, S. Choudhary, "Federated Learning with Personalization Layers", 2019,
arXiv:1912.00818 (FedPer: `keep=classifier`, or more of the last layers). L. Collins, H. Hassani, A. Mokhtari, S.
Shakkottai, "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021, arXiv:2102.07078
(FedRep: in each round `head-epochs` epochs of what stays alone, then --local-epochs of what is shared alone). X. Li, M.
Jiang, X. Zhang, M. Kamp, Q. Dou, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR
2021, arXiv:2102.07623 (`keep=bn`).

What stays is never on the wire, in neither direction: the server's global arrays, its strategy and its checkpoints have
the shared ones alone. So it has no whole model, and tests none.
"""

import logging

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS, TRAINABLE
from fedkeras.federation.records import record, views
from fedkeras.mods.base import CallNext
from fedkeras.mods.client_state import KeptState
from fedkeras.mods.personalisation.kept_layers import kept_names, words_of
from fedkeras.mods.personalisation.personal_mod import PersonalMod, require_count
from fedkeras.mods.personalisation.wire import (
    OBJECTIVE,
    PROXIMAL_MU,
    TABLE,
    Arrays,
    OwnHandlers,
    answer,
    key_of_arrays,
    seconds_of,
    trained,
)

log = logging.getLogger("fedkeras")


class LocalLayers(PersonalMod):
    """`--mods local-layers:keep=classifier`: which layers stay (`kept_layers`); head-epochs=1 for FedRep's phases."""

    whole_model = False
    name = "local-layers"

    def __init__(
        self, keep: str = "classifier", head_epochs: int = 0, new_clients: int = 0, new_epochs: int = 1
    ) -> None:
        super().__init__(new_clients, new_epochs)
        self.keep, self.head_epochs = str(keep), head_epochs
        if not all(word.strip() for word in self.keep.split("/")):
            raise ValueError(f"keep must be classifier, bn, or layers with a slash between, not '{keep}'")
        require_count("head-epochs", head_epochs, 0)

    @property
    def words(self) -> str:
        """What stays, and what is tested."""
        phases = f", trained alone for {self.head_epochs} epochs before the others are" if self.head_epochs else ""
        return (
            f"the layers of keep={self.keep} stay with each client{phases}, and are never sent; each is tested with "
            "its own model, and the shared layers alone are no model to test"
        )

    def check(self, config: Config) -> None:
        """FedRep's phases say themselves what is minimised by which weights."""
        super().check(config)
        if self.head_epochs and config.strategy == "fedprox":
            raise UserError(
                "--mods local-layers:head-epochs does not go with --strategy fedprox, an objective too many"
            )

    def most_epochs(self, config: Config) -> int:
        """Those of the first phase, too."""
        return max(super().most_epochs(config), self.head_epochs)

    # On the client

    def round_answer(self, handlers: OwnHandlers, table: ConfigRecord) -> Message:
        """Complete the shared arrays by this client's own; keep its own back from the answer."""
        message, shared = handlers.message, handlers.arrays
        state = KeptState.asked_for(table, handlers.context, "local-layers")
        own = state.recall()
        if message.metadata.message_type == MessageType.EVALUATE:
            if not own:
                raise UserError("this client has not got its own layers, and no model to test until it has trained")
            return handlers.evaluate(_whole(shared, own))
        own = own or self._untrained(handlers)[0]
        if self.head_epochs:
            return self._in_phases(handlers, shared, own, state)
        reply = handlers.train(_whole(shared, own))
        after = trained(reply)
        return self._sent(message, reply, shared, after, {name: after[name] for name in own}, state, seconds_of(reply))

    def newcomer(self, handlers: OwnHandlers, epochs: int) -> Arrays:
        """What the others share, as it is, and untrained layers that are then trained alone."""
        own, trainable = self._untrained(handlers)
        shared = handlers.arrays
        found = trained(handlers.train(_whole(shared, own), "new client", epochs, _only(own, trainable)))
        return _whole(shared, {name: found[name] for name in own})

    def other_answer(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Of the untrained model the shared arrays, from which the server begins."""
        if message.metadata.message_type != INITIAL_WEIGHTS:
            return call_next(message, context)
        content, arrays = OwnHandlers(message, context, call_next).untrained()
        trainable = content["config"][TRAINABLE]
        kept = set(kept_names(self.keep, arrays, trainable))
        log.info("own layers: %s", words_of(kept, arrays))
        key = key_of_arrays(content)
        shared = {name: array for name, array in views(content[key]).items() if name not in kept}
        config = ConfigRecord({TRAINABLE: [name for name in trainable if name not in kept]})
        return Message(RecordDict({key: record(shared), "config": config}), reply_to=message)

    def _in_phases(self, handlers: OwnHandlers, shared: Arrays, own: Arrays, state: KeptState) -> Message:
        """FedRep's round: what stays, by itself; then what is shared, by itself."""
        table = handlers.message.content.get("config", {})
        if table.get(OBJECTIVE) or table.get(PROXIMAL_MU):
            raise UserError("head-epochs: the strategy names an objective, and FedRep's phases are objectives too")
        trainable = self._untrained(handlers)[1]
        head = handlers.train(_whole(shared, own), "own layers", self.head_epochs, _only(own, trainable))
        after = trained(head)
        own = {name: after[name] for name in own}
        body = handlers.train(_whole(shared, own), objective=_only(shared, trainable))
        return self._sent(handlers.message, body, shared, trained(body), own, state, seconds_of(head, body))

    def _sent(
        self,
        message: Message,
        reply: Message,
        shared: Arrays,
        after: Arrays,
        own: Arrays,
        state: KeptState,
        seconds: float,
    ) -> Message:
        """The answer with the shared arrays alone; `own` is kept here."""
        key = key_of_arrays(reply.content)
        content = {**reply.content, key: record({name: after[name] for name in shared})}
        return answer(message, RecordDict({**content, TABLE: ConfigRecord(state.keep(own))}), seconds)

    def _untrained(self, handlers: OwnHandlers) -> tuple[dict[str, np.ndarray], set[str]]:
        """What stays, as the run's seed has it; and the names of all arrays that are trained."""
        content, arrays = handlers.untrained()
        trainable = set(content["config"][TRAINABLE])
        initial = views(content[key_of_arrays(content)])
        return {name: initial[name] for name in kept_names(self.keep, arrays, trainable)}, trainable


def _whole(shared: Arrays, own: Arrays) -> dict[str, np.ndarray]:
    """All arrays. Raises ValueError if the server sends what stays here."""
    if both := [name for name in own if name in shared]:
        raise ValueError(f"the server sends '{both[0]}', which stays here")
    return {**shared, **own}


def _only(arrays: Arrays, trainable: set[str]) -> str:
    """The objective by which these arrays alone are trained. Raises UserError if none of them is trained."""
    names = [name for name in arrays if name in trainable]
    if not names:
        raise UserError("nothing that stays with a client is trained by a gradient: head-epochs has nothing to do")
    return f"only:arrays={'/'.join(names)}"
