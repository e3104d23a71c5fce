"""Fine-tuning after the rounds: each client trains the last global model on for some epochs, and is tested with that.

K. Wang et al., "Federated Evaluation of On-device Personalization", 2019, arXiv:1910.10252; L. Collins, H. Hassani, A.
Mokhtari, S. Shakkottai, "FedAvg with Fine Tuning: Local Updates Lead to Representation Learning", NeurIPS 2022,
arXiv:2205.13692. It costs nothing in the rounds, and is what every other way to personalise must be better than.
"""

from flwr.app import ConfigRecord, Message, MessageType

from fedkeras.config import Config
from fedkeras.mods.personalisation.personal_mod import PersonalMod, require_count
from fedkeras.mods.personalisation.wire import LAST, Arrays, OwnHandlers, answer, renamed, seconds_of, trained


class FineTuning(PersonalMod):
    """`--mods fine-tuning:epochs=5`: after the last round alone; what is trained then is sent nowhere."""

    name = "fine-tuning"

    def __init__(self, epochs: int = 1, new_clients: int = 0, new_epochs: int = 1) -> None:
        super().__init__(new_clients, new_epochs, keeps_state=False)
        require_count("epochs", epochs, 1)
        self.epochs = epochs

    @property
    def words(self) -> str:
        """When a client has a model of its own."""
        return (
            f"after the last round each client trains the shared model on for {self.epochs} epochs, and keeps what "
            "comes of it; accuracy on clients is the shared model's until then, and shared_accuracy in all rounds"
        )

    def most_epochs(self, config: Config) -> int:
        """Those of the fine-tuning, too."""
        return max(super().most_epochs(config), self.epochs)

    def round_answer(self, handlers: OwnHandlers, table: ConfigRecord) -> Message:
        """As without this mod, but for the last test."""
        if handlers.message.metadata.message_type == MessageType.TRAIN:
            return handlers.train(handlers.arrays)
        if not table.get(LAST):
            reply = handlers.evaluate(handlers.arrays)
            return answer(handlers.message, reply.content, seconds_of(reply), renamed(reply, "shared"))
        before = handlers.evaluate(handlers.arrays, "shared")
        tuned = handlers.train(handlers.arrays, "fine-tuning", self.epochs)
        after = handlers.evaluate(trained(tuned))
        return answer(handlers.message, after.content, seconds_of(before, tuned, after), renamed(before, "shared"))

    def newcomer(self, handlers: OwnHandlers, epochs: int) -> Arrays:
        """The global model, fine-tuned."""
        return trained(handlers.train(handlers.arrays, "new client", epochs))

    def shared_figures(self, handlers: OwnHandlers) -> dict[str, int | float]:
        """The global model's on a new client."""
        return renamed(handlers.evaluate(handlers.arrays, "shared"), "new-shared")
