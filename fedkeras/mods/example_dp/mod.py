"""Differential privacy of examples on each client: with one example or without it, what is sent is nearly the same.

M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133 (DP-SGD); the gradients are had
by `fedkeras.learning.dp_sgd`. Neither the server nor whoever runs it is trusted with an example: what leaves a client
is noised before. Its number of examples counts as public, for the rate of its batches and so its epsilon follow from
it.

Where the noise is computed for an epsilon, each client computes it, for its own number of examples: who has more needs
less noise for the same promise, no client exceeds it, and none has to take the server's word for how much is enough.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from fedkeras.accountant import require_library, short
from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of, metrics_of
from fedkeras.federation.requests import ClientContext
from fedkeras.federation.trainable import Trainable, statistics_among
from fedkeras.mods import releases
from fedkeras.mods.base import CallNext, Exchange, Mod
from fedkeras.mods.budget_options import WEAK, require_budget, require_number
from fedkeras.mods.example_dp import section
from fedkeras.mods.example_dp.callbacks import ExampleBudget
from fedkeras.mods.example_dp.epsilon_column import EpsilonColumn
from fedkeras.mods.example_dp.ledger import ExampleLedger
from fedkeras.mods.example_dp.privacy_terms import PrivacyTerms
from fedkeras.mods.example_dp.private_training import private_answer, training_of
from fedkeras.named_code import parse_specs
from fedkeras.reports.choices import CONCEALED
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import COUNTS, FIGURES, NOBODY, UPDATE, Seen, Sight

NAME = "dp-sgd"
HIDING = ("dp", "secure-aggregation")
"""Mods that keep single clients out of what the server sees or keeps: nobody but the client then counts for it."""
BESIDE = (NAME, "stragglers", "compress", *HIDING)
"""Mods that may be named together; of others nobody knows what they release.

compress rounds what is private by then."""


class ExampleDp(Mod):
    """`--mods dp-sgd:epsilon=2,delta=1e-5,clip=1.0`, or `dp-sgd:noise-multiplier=1.1,delta=1e-5,clip=1.0`.

    With `epsilon` alone each client computes its noise for all rounds; with `noise-multiplier` alone nothing ends the
    run; with both, the run ends before a client's epsilon exceeds it. `clip` bounds the gradient of one example.
    """

    shows_clients = False
    shows_means = False
    needs_updates = True
    untracked = ("ledger", "_budget")

    def __init__(
        self,
        delta: float,
        epsilon: float = 0.0,
        noise_multiplier: float = 0.0,
        clip: float = 1.0,
        study: bool = False,
    ) -> None:
        require_budget(delta, epsilon, noise_multiplier, study)
        require_number("clip", clip, 0, math.inf)
        self.delta, self.clip, self.study = float(delta), float(clip), study
        self.budget, self.noise = float(epsilon) or None, float(noise_multiplier)
        self.ledger: ExampleLedger | None = None
        self._budget: ExampleBudget | None = None

    def terms(self, config: Config) -> PrivacyTerms:
        """What is promised in a run with this configuration; the same on the server and on every client."""
        return PrivacyTerms(
            self.delta, self.clip, self.budget, self.noise, config.num_server_rounds, config.local_epochs, self.study
        )

    # Before a run

    def check(self, config: Config) -> None:
        """What would release more than is counted."""
        require_library(NAME)
        releases.refuse(config, NAME, accepted=("counts",))
        names = [spec.name for spec in parse_specs(config.mods, "mods")]
        if others := [name for name in names if name not in BESIDE]:
            raise UserError(f"--mods {NAME} does not go with {others[0]}: nobody knows what that one releases")
        if names and names[-1] != NAME:
            raise UserError(
                f"--mods: name {NAME} last, next to the training, so that {names[-1]} sees what is protected"
            )
        if self.noise and (hiding := [name for name in names if name in HIDING]):
            raise UserError(
                f"--mods {NAME} with noise-multiplier does not go with {hiding[0]}, which keeps from the server what "
                "it would count epsilon from; say epsilon alone, and each client counts for itself"
            )

    def choose(self, config: Config) -> Mapping[str, str]:
        """What is promised. A run that tests a model spends nothing."""
        if config.evaluate:
            return {}
        self.ledger = ExampleLedger(self.terms(config), shows_clients=not _hidden(config))
        self._budget = ExampleBudget(self.ledger)
        at = f"at delta {short(self.delta)}"
        if not self.noise:
            text = (
                f"epsilon {self.budget:g} {at} for each example after {config.num_server_rounds} rounds of "
                f"{config.local_epochs} epochs; every client computes the noise for its own number of examples (PLD)"
            )
        else:
            ends = f"; the run ends before it exceeds {self.budget:g}" if self.budget else ""
            text = (
                f"noise {self.noise:g} times the clipping bound at each step; epsilon {at} follows from each client's "
                f"number of examples{ends}"
            )
        whose = "the seed (study=true)" if self.study else "each client's system, not the seed"
        return {
            "privacy of examples": text,
            "gradients": f"each example's is at most {self.clip:g} long; coins, noise and masks are from {whose}",
            CONCEALED: "known, but what clients measure is not sent: the central test set alone says how good it is",
        }

    def warnings(self, clients: int) -> Iterator[str]:
        """What a user must know who relies on it."""
        if self.ledger is None:
            return
        if self.study:
            yield "NOT PRIVATE: study=true takes batches and noise from the seed, which the server knows"
        if self.budget is not None and self.budget > WEAK:
            yield f"epsilon {self.budget:g} for an example protects hardly anybody: it should be some 10 at most"

    def check_arrays(self, names: Collection[str], trainable: Trainable) -> None:
        """Statistics that change in training would be sent unprotected."""
        if found := statistics_among(names, trainable):
            raise UserError(
                f"--mods {NAME} does not go with BatchNormalization, whose statistics ('{found[0]}') come from the "
                "examples beside the gradients; take GroupNormalization or LayerNormalization"
            )

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Train by DP-SGD, and send the update and what it cost."""
        config = ClientContext(context).config
        return private_answer(message, context, call_next, self.terms(config), not _hidden(config))

    # On the server

    def strategy(self, strategy: Strategy) -> Strategy:
        """The same, with epsilon among a round's metrics."""
        return strategy if self.ledger is None else EpsilonColumn(strategy, self)

    def exchange(self, inner: Exchange, messages: Sequence[Message]) -> Iterator[Message]:
        """Enter who is asked to train before it is asked."""
        if messages and messages[0].metadata.message_type == MessageType.TRAIN and self._budget is not None:
            self.ledger.charge([self._budget.cids[message.metadata.dst_node_id] for message in messages])
        return inner.exchange(messages)

    def decode(self, reply: Message, sent: Message) -> Message:
        """What the training was, by the client's word: a lie is about its own examples."""
        if self.ledger is None or sent.metadata.message_type != MessageType.TRAIN or not self.ledger.shows_clients:
            return reply
        figures = metrics_of(reply.content)
        examples, training = int(figures.get(NUM_EXAMPLES, 0)), training_of(figures, self.ledger.terms)
        self.ledger.learn(self._budget.cids[reply.metadata.src_node_id], examples, training)
        rest = MetricRecord({NUM_EXAMPLES: figures[NUM_EXAMPLES]})  # means of the others say nothing
        return Message(RecordDict({"arrays": arrays_of(reply.content), "metrics": rest}), metadata=reply.metadata)

    def callbacks(self) -> Sequence[Callback]:
        """One that opens the ledger and ends the run before a budget is exceeded."""
        return () if self._budget is None else (self._budget,)

    def summary(self) -> JsonTable:
        """What was spent, for summary.json."""
        if self.ledger is None:
            return {}
        last = self.ledger.rounds[-1] if self.ledger.rounds else None
        spent = {"epsilon": last and last.worst, "epsilon_median": last and last.median, "budget": self.budget}
        return {"example_privacy": {**spent, "delta": self.delta, "private": not self.study}}

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Epsilon by round and by client."""
        return section.of(folder)

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """Each update, noised before it left; no figures. The number of examples counts as public."""
        noise = f"noise {self.noise:g} times that" if self.noise else "noise for its own number of examples"
        promised = f", epsilon {self.budget:g} at delta {short(self.delta)} for an example" if self.budget else ""
        how = f"gradient of each example clipped to {self.clip:g}, {noise} of each step, on the client{promised}"
        if self.study:
            how = "not against the server: coins and noise came from the seed"
        lines = {name: replace(sight[name], protection=how) for name in (UPDATE,) if name in sight}
        lines |= {name: Seen(sight[name].what, NOBODY, "not sent") for name in (FIGURES,) if name in sight}
        lines |= {name: replace(sight[name], protection="counts as public") for name in (COUNTS,) if name in sight}
        return {**sight, **lines}


def _hidden(config: Config) -> bool:
    """Whether another mod keeps single clients from the server."""
    return any(spec.name in HIDING for spec in parse_specs(config.mods, "mods"))
