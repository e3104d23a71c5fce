"""Canary examples: whether an example was trained on, told from what its client sends.

Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run, NeurIPS 2023, arXiv:2305.08846: many canaries in
one run, each included by a fair coin of its own; the attacker guesses the coins (bounds.py). So the neighbour is that
of the mod dp-sgd: one example more or less.

The attacker is DP-SGD's own: it sees each round's global model and what each client sends (the server), and knows all
examples of the clients but the coins. So it trains beside each client on what that has without canaries and without
noise, and looks at what is left of the update. What speaks for a canary is how much its loss falls along that,

    (loss(w - u) - loss(w + u)) / 2,    u  the client's update less the attacker's,

which is its gradient's share in it, but for terms of the third order.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType

from fedkeras import client, data, factory
from fedkeras.audit.bounds import bound_of_guesses, ceiling, right_guesses
from fedkeras.audit.canaries import CanaryAttack, claim_of
from fedkeras.audit.federation import Federation, Weights
from fedkeras.audit.finding import Finding, Scores
from fedkeras.audit.gaussian_estimate import epsilon_of_scores
from fedkeras.audit.planted import Planted, plant
from fedkeras.audit.subject import Subject
from fedkeras.federation.messages import arrays_of
from fedkeras.federation.records import of_kind, views
from fedkeras.mods.chain import make_mods
from fedkeras.mods.client_dp.mod import ClientDp
from fedkeras.mods.example_dp.mod import ExampleDp
from fedkeras.mods.stragglers import Stragglers
from fedkeras.randomness import generator
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.base import workflow_of

if TYPE_CHECKING:
    import tensorflow as tf

    from fedkeras.learning import Learner, Objective

LEAVE_UPDATES = (ExampleDp, Stragglers)
"""Mods beside which what a client sends is the weights that it has trained."""


class CanaryExamples(CanaryAttack):
    """`--attacks canary-examples:canaries=200`: a new federation, canaries among its clients' examples.

    For runs with `--mods dp-sgd`, and for those that claim nothing. Options: see CanaryAttack.
    """

    name = "canary-examples"

    def reason_against(self, subject: Subject) -> str:
        """Federated rounds, on data that are here, of classes."""
        config = subject.config
        if not workflow_of(config).sends_updates:
            return "it has no federated rounds, in which a canary could take part"
        if subject.missing_data:
            return f"{subject.missing_data}, so that no federation can be run again"
        mods = make_mods(config.mods).mods
        if any(isinstance(mod, ClientDp) for mod in mods) and _example_dp(mods) is None:
            return "what --mods dp claims is about clients, not about examples (canary-clients)"
        if data.open_source(config).targets is not None:
            return "its examples have no classes under which a canary could stand"
        return ""

    def run(self, subject: Subject) -> Sequence[Finding]:
        """What every update tells, which decides about the claim, and what the last model alone tells, beside it."""
        config, mods = subject.config, make_mods(subject.config.mods).mods
        dp = _example_dp(mods)
        count = self.count_for(dp and dp.budget, dp.delta if dp else 0.0, subject)
        coins = self.coins(count)
        subject.say(
            f"canary examples: {config.num_server_rounds} rounds again, with {count} canaries among the examples of "
            f"{config.num_partitions} clients, of which a coin each includes {int(coins.sum())}"
        )
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng([self.seed, 3])
            planted = plant(config, subject.examples, coins, rng, Path(folder))
            sees = all(isinstance(mod, LEAVE_UPDATES) for mod in mods)
            onlooker = Onlooker(planted, dp.clip if dp else 0.0)
            federation = Federation(planted.config, onlooker.answer if sees else client.app).run()
            fallen = onlooker.losses(federation.first) - onlooker.losses(federation.last)
        claimed, delta = _claim(_example_dp(federation.mods.mods))
        claimed = None if claimed is None else claim_of(subject, "example_privacy", claimed)
        notes = [
            f"{count} canaries among {sum(map(len, planted.examples.values()))} examples of {config.num_partitions} "
            f"clients, {int(coins.sum())} were included.",
            *(["study=true: audited as if batches and noise were not from the seed."] if dp and dp.study else []),
        ]
        sights = [("canary examples, last model", "the first and the last model alone", "fall of the loss", fallen)]
        if sees:
            every = "what each client sends in each round, and all about the other examples"
            sights.insert(0, ("canary examples, every update", every, "fall of the loss, all rounds", onlooker.scores))
        findings = []
        for place, (title, seen, label, scores) in enumerate(sights):
            found = bound_of_guesses(right_guesses(scores, coins), delta, subject.confidence)
            findings.append(
                Finding(
                    self.name,
                    title,
                    seen,
                    "example",
                    claimed=claimed,
                    delta=delta,
                    bound=found.epsilon,
                    confidence=subject.confidence,
                    most=ceiling(count, delta, subject.confidence),
                    estimate=epsilon_of_scores(scores[coins], scores[~coins], delta),
                    figures={"canaries": count, "guesses": found.guesses, "right": found.right},
                    decides=place == 0,
                    notes=() if place else notes,
                    scores=Scores(label, scores[coins].tolist(), scores[~coins].tolist()),
                )
            )
        return findings


@dataclass
class Onlooker:
    """The attacker's side: sees what each client sends, and adds up what speaks for each canary."""

    planted: Planted
    clip: float
    """The clipping bound of DP-SGD; 0: ordinary training."""
    scores: np.ndarray = field(init=False)
    _learner: "Learner | None" = field(init=False, default=None)
    _placed: "dict[int, tuple[tf.Tensor, tf.Tensor]]" = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.scores = np.zeros(len(self.planted.y))

    def answer(self, message: Message, context: Context) -> Message:
        """The client's own answer; of what it has trained the attacker takes note."""
        reply = client.app(message, context)
        if message.metadata.message_type == MessageType.TRAIN and not reply.has_error():
            origin = views(next(iter(of_kind(message.content, ArrayRecord).values())))
            cid = int(context.node_config["partition-id"])
            self._look(cid, origin, views(arrays_of(reply.content)))
        return reply

    def losses(self, weights: Weights, whose: int | None = None) -> np.ndarray:
        """Of each canary, or of one client's, (m,)."""
        import_tensorflow()
        from fedkeras.learning.example_losses import example_losses

        own = slice(None) if whose is None else self.planted.owner == whose
        learner = self.learner
        learner.set_weights(weights)
        return example_losses(learner, *learner.place(self.planted.x[own], self.planted.y[own]))

    @property
    def learner(self) -> "Learner":
        """The attacker's own copy of the model."""
        if self._learner is None:
            self._learner = factory.make_learner(self.planted.config, self.planted.config.threads_per_client)
        return self._learner

    def _look(self, cid: int, origin: Weights, sent: Weights) -> None:
        own = self.planted.owner == cid
        if not own.any():
            return
        without = self._trained(cid, origin)
        there = {name: array + (sent[name] - without[name]) for name, array in origin.items()}
        back = {name: array - (sent[name] - without[name]) for name, array in origin.items()}
        self.scores[own] += (self.losses(back, cid) - self.losses(there, cid)) / 2

    def _trained(self, cid: int, origin: Weights) -> Mapping[str, np.ndarray]:
        """What the client would have sent without canaries, and without noise."""
        config, learner = self.planted.config, self.learner
        if cid not in self._placed:
            own = self.planted.examples[cid]
            self._placed[cid] = learner.place(own.x, own.y)
        learner.set_weights(origin)
        learner.train(
            *self._placed[cid],
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            rng=generator(config.seed, "audit", cid),
            objective=self._objective(),
        )
        return learner.get_weights()

    def _objective(self) -> "Objective | None":
        from fedkeras.learning.dp_sgd import DpSgd

        return DpSgd(clip=self.clip) if self.clip else None


def _example_dp(mods: Sequence[object]) -> ExampleDp | None:
    return next((mod for mod in mods if isinstance(mod, ExampleDp)), None)


def _claim(dp: ExampleDp | None) -> tuple[float | None, float]:
    """Epsilon and delta: the worst client's of those that have answered, or the budget where nobody else counts."""
    if dp is None:
        return None, 0.0
    spent = dp.ledger.spent()
    return (max(spent.values()) if spent else dp.budget), dp.delta
