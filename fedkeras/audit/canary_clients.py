"""Canary clients: whether a client took part, told from what a differentially private run releases.

Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar: One-shot Empirical Privacy Estimation for Federated Learning, ICLR
2024, arXiv:2302.03098: clients whose update is a random direction are added to the run, and sought in the models by the
cosine. The bound is Steinke, Nasr, Jagielski's (bounds.py): each canary joins or stays away by a fair coin of its own,
and the attacker guesses the coins. So the neighbour is the mod's: one client more or less, drawn into each round with
the run's own probability.

A canary is a liar: it sends its direction at LIE times the bound and says that this is within it, so that a server that
forgets to clip is found out as well as one that forgets the noise.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras import client
from fedkeras.audit.bounds import bound_of_guesses, ceiling, right_guesses
from fedkeras.audit.canaries import CanaryAttack, claim_of
from fedkeras.audit.directions import Directions, flat
from fedkeras.audit.federation import Federation, Weights
from fedkeras.audit.finding import Finding, Scores
from fedkeras.audit.gaussian_estimate import epsilon_of_scores
from fedkeras.audit.subject import Subject
from fedkeras.errors import UserError
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of
from fedkeras.federation.records import of_kind, record, views
from fedkeras.mods.chain import make_mods
from fedkeras.mods.client_dp.mod import ClientDp
from fedkeras.mods.client_dp.noisy_mean import BOUND, TRAINABLE, WITHIN
from fedkeras.workflows.base import workflow_of

LIE = 10.0
PLAIN = ("fedavg", "fedprox")
"""Strategies whose step is the noisy mean itself."""


class CanaryClients(CanaryAttack):
    """`--attacks canary-clients:canaries=200`: for runs with `--mods dp`; a new federation, canaries among its clients.

    Options: see CanaryAttack.
    """

    name = "canary-clients"

    def reason_against(self, subject: Subject) -> str:
        """There must be a claim about clients, and data to train on."""
        config = subject.config
        if not any(isinstance(mod, ClientDp) for mod in make_mods(config.mods).mods):
            return "it claims nothing about clients (--mods dp)"
        if not workflow_of(config).sends_updates:
            return "it has no federated rounds, in which a canary could take part"
        if subject.missing_data:
            return f"{subject.missing_data}, so that no federation can be run again"
        return ""

    def run(self, subject: Subject) -> Sequence[Finding]:
        """Two findings: of all rounds' models, which decides about the claim, and of the last one alone, beside it."""
        config = subject.config
        planned = next(mod for mod in make_mods(config.mods).mods if isinstance(mod, ClientDp))
        planned.choose(config)
        promised = planned.planned if planned.budget is None else min(planned.budget, planned.planned)
        count = self.count_for(promised, planned.delta, subject)
        included = self.coins(count)
        subject.say(
            f"canary clients: {config.num_server_rounds} rounds again, with {count} canaries beside "
            f"{config.num_partitions} clients, of which a coin each lets {int(included.sum())} take part"
        )
        canaries = Canaries(config.num_partitions, included, self.seed)
        whole = replace(config, num_partitions=config.num_partitions + count)
        connected = [*range(config.num_partitions), *(canaries.first + np.flatnonzero(included))]
        federation = Federation(whole, canaries.answer, list(map(int, connected)), config, canaries.watch)
        canaries.dp = next(mod for mod in federation.mods.mods if isinstance(mod, ClientDp))
        canaries.plain = config.strategy in PLAIN
        federation.run()
        dp = canaries.dp
        if not dp.ledger.entries:
            raise UserError("canary-clients: not one round kept within the run's budget, so nothing was released")
        claimed, left_out = claim_of(subject, "privacy", dp.ledger.spent), ~included
        cosines = canaries.cosines(federation.first, federation.last)
        notes = [
            f"{count} canaries among {config.num_partitions} clients, {int(included.sum())} took part; "
            f"{len(dp.ledger.entries)} rounds, each client in each with probability {dp.rate:.4g}.",
            *(["study=true: audited as if cohorts and noise were not from the seed."] if dp.study else []),
        ]
        sights = (
            ("canary clients, every model", "every round's model, and all about the other clients", canaries.scores),
            ("canary clients, last model", "the first and the last model alone", cosines),
        )
        findings = []
        for title, sees, scores in sights:
            found = bound_of_guesses(right_guesses(scores, included), dp.delta, subject.confidence)
            findings.append(
                Finding(
                    self.name,
                    title,
                    sees,
                    "client",
                    claimed=claimed,
                    delta=dp.delta,
                    bound=found.epsilon,
                    confidence=subject.confidence,
                    most=ceiling(count, dp.delta, subject.confidence),
                    estimate=epsilon_of_scores(scores[included], scores[left_out], dp.delta),
                    figures={"canaries": count, "guesses": found.guesses, "right": found.right},
                    decides=scores is not cosines,
                    notes=notes if scores is not cosines else (),
                    scores=Scores(
                        "cosine with the last model" if scores is cosines else "log-likelihood ratio of all rounds",
                        scores[included].tolist(),
                        scores[left_out].tolist(),
                    ),
                )
            )
        return findings


@dataclass
class Canaries:
    """The canaries' side of a run, and the attacker's, who adds up what speaks for each of them.

    What the other clients have sent is known to the attacker, as in the definition of differential privacy.
    """

    first: int
    """The client id of the first canary; those below are the run's own clients."""
    included: np.ndarray
    seed: int
    dp: ClientDp | None = None
    plain: bool = True
    scores: np.ndarray = field(init=False)
    _others: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.scores = np.zeros(len(self.included))

    # The clients

    def answer(self, message: Message, context: Context) -> Message:
        """A canary lies; everybody else is answered for by client.py, and the attacker looks on."""
        cid = int(context.node_config["partition-id"])
        if message.metadata.message_type != MessageType.TRAIN:
            if cid < self.first:
                return client.app(message, context)
            raise UserError("a canary has no data")
        origin = views(next(iter(of_kind(message.content, ArrayRecord).values())))
        table = next(iter(of_kind(message.content, ConfigRecord).values()))
        if cid >= self.first:
            return self._lie(message, origin, cid - self.first, float(table[BOUND]), list(table[TRAINABLE]))
        reply = client.app(message, context)
        if not reply.has_error():
            names = list(table[TRAINABLE])
            moved = flat(views(arrays_of(reply.content)), names) - flat(origin, names)
            self._others = moved if self._others is None else self._others + moved
        return reply

    def _lie(self, message: Message, origin: Weights, number: int, bound: float, names: Sequence[str]) -> Message:
        step = LIE * bound * self._directions(sum(origin[name].size for name in names)).of(number)
        sent, place = dict(origin), 0
        for name in names:
            part = step[place : place + origin[name].size].reshape(origin[name].shape)
            sent[name], place = (origin[name] + part).astype(origin[name].dtype), place + part.size
        # That half of them are within it leaves an adaptive bound where it is
        figures = MetricRecord({NUM_EXAMPLES: 1, WITHIN: number % 2})
        return Message(RecordDict({"arrays": record(sent), "metrics": figures}), reply_to=message)

    # The attacker

    def watch(self, server_round: int, before: Weights, after: Weights) -> None:
        """Look at a round's model."""
        dp, names = self.dp, list(self.dp.trainable)
        moved = flat(after, names) - flat(before, names)
        directions = self._directions(len(moved))
        if self.plain:
            others = 0.0 if self._others is None else self._others
            share = directions.along((moved * dp.expected - others) / dp.ledger.entries[-1].bound)
            self.scores += log_ratio(share, dp.sum_noise, dp.rate)
        else:  # of a step that is made of the noisy mean, the direction
            self.scores += directions.along(moved / (np.linalg.norm(moved) or 1.0))
        self._others = None

    def cosines(self, first: Weights, last: Weights) -> np.ndarray:
        """Each canary's cosine with all that the run has learned, (m,)."""
        moved = flat(last, self.dp.trainable) - flat(first, self.dp.trainable)
        return self._directions(len(moved)).along(moved / (np.linalg.norm(moved) or 1.0))

    def _directions(self, size: int) -> Directions:
        return _directions(self.seed, len(self.included), size)


def log_ratio(share: np.ndarray, noise: float, rate: float) -> np.ndarray:
    """How much a round speaks for a canary's having joined: the logarithm of the ratio of the two likelihoods.

    `share` is its share in the released sum, in clipping bounds: 1 where it was drawn into the round, which happens
    with probability `rate`, 0 where not, and normal noise of deviation `noise`:

        ln(1 - q + q exp((share - 1/2) / noise^2))
    """
    drawn = math.log(rate) + (share - 0.5) / noise**2
    return np.logaddexp(math.log1p(-rate) if rate < 1 else -math.inf, drawn)


@functools.lru_cache(maxsize=1)
def _directions(seed: int, count: int, size: int) -> Directions:
    return Directions(seed, count, size)
