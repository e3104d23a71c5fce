"""Differential privacy of clients: with it or without it, whoever sees what a run publishes sees nearly the same.

McMahan, Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models, ICLR 2018, arXiv:1710.06963
(DP-FedAvg). Each client is drawn into a round by a coin of its own, sends an update of bounded length, and the sum of
the updates is noised before anything is made of it. The server and whoever runs it are trusted: they see each update.

Cohort and noise are the operating system's randomness, since clients know the run's seed; `study=true` takes them from
the seed, so that a run can be repeated, and then nothing is private.
"""

import math
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from flwr.app import Context, Message, MessageType
from flwr.serverapp.strategy import Strategy

from fedkeras.accountant import Mechanism, calibrate, require_library, short
from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.strategy_adapter import TAKE_ALL, is_robust, nested
from fedkeras.federation.trainable import Trainable, statistics_among
from fedkeras.mods import releases
from fedkeras.mods.base import CallNext, Mod
from fedkeras.mods.budget_options import WEAK, require_budget, require_number
from fedkeras.mods.client_dp import section
from fedkeras.mods.client_dp.budget import PrivacyBudget
from fedkeras.mods.client_dp.clipping import AdaptiveBound
from fedkeras.mods.client_dp.ledger import Ledger
from fedkeras.mods.client_dp.noisy_mean import NoisyMean
from fedkeras.mods.client_dp.private_answer import private_answer
from fedkeras.named_code import parse_specs
from fedkeras.randomness import generator
from fedkeras.reports.choices import CONCEALED
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import COUNTS, FIGURES, NOBODY, UPDATE, Seen, Sight

BESIDE = ("dp", "dp-sgd", "stragglers")
"""Mods that may be named together; of others nobody knows what they release."""
NOT_BESIDE = {"secure-aggregation": "the server must clip each client's update, which it would not see; dp-sgd does"}
"""Why some others may not."""


class ClientDp(Mod):
    """`--mods dp:epsilon=2,delta=1e-5,clip=adaptive`, or `dp:noise-multiplier=1.1,clip=0.5,delta=1e-5`.

    With `epsilon` alone the noise is calibrated for all rounds; with `noise-multiplier` alone nothing ends the run;
    with both, the run ends before epsilon is exceeded. `clip` is the bound of an update's length, or adaptive: from
    `initial-clip` on it follows the `quantile` of the updates' lengths, by `clip-rate`.
    """

    shows_clients = False
    shows_means = False
    shows_cohort = False
    needs_replies = False
    needs_updates = True
    fixed_counts = False
    untracked = ("ledger",)

    def __init__(
        self,
        delta: float,
        epsilon: float = 0.0,
        noise_multiplier: float = 0.0,
        clip: float | str = "adaptive",
        initial_clip: float = 0.1,
        quantile: float = 0.5,
        clip_rate: float = 0.2,
        study: bool = False,
    ) -> None:
        require_budget(delta, epsilon, noise_multiplier, study)
        require_number("quantile", quantile, 0, 1)
        for name, value in (("initial-clip", initial_clip), ("clip-rate", clip_rate)):
            require_number(name, value, 0, math.inf)
        if clip != "adaptive":
            require_number("clip", clip, 0, math.inf, "a number above 0, or adaptive")
        self.delta, self.budget, self.study = float(delta), float(epsilon) or None, study
        self.noise = float(noise_multiplier)
        self.quantile, self.clip_rate, self.adaptive = float(quantile), float(clip_rate), clip == "adaptive"
        self.bound = float(initial_clip if clip == "adaptive" else clip)
        self.seed, self.clients, self.rate, self.rounds = 0, 0, 1.0, 0  # the run's, by `choose`
        self.ledger: Ledger | None = None

    # Before a run

    def check(self, config: Config) -> None:
        """What would break the accounting, or release what it does not count."""
        require_library("dp")
        releases.refuse(config, "dp")
        refused = {
            "--metrics-port, which tells how many are asked in each round": bool(config.metrics_port),
            "--min-results: a round counts however few answer, else who is absent would decide": config.min_results > 1,
        }
        if found := [name for name, so in refused.items() if so]:
            raise UserError(f"--mods dp does not go with {found[0]}")
        if others := [spec.name for spec in parse_specs(config.mods, "mods") if spec.name not in BESIDE]:
            why = NOT_BESIDE.get(others[0], "nobody knows what that one releases")
            raise UserError(f"--mods dp does not go with {others[0]}: {why}")
        needed = ["--client-weights uniform"] * (config.client_weights != "uniform")
        needed += ["--rest-after 0"] * (config.rest_after > 0)
        if needed:
            raise UserError(
                f"--mods dp needs {' and '.join(needed)}: nothing that a client says or does may decide how much it "
                "counts, or when it is asked"
            )

    def choose(self, config: Config) -> Mapping[str, str]:
        """The noise, or epsilon, for the rounds that are wanted. A run that tests a model spends nothing."""
        if config.evaluate:
            return {}
        self.seed, self.clients, self.rounds = config.seed, config.num_partitions, config.num_server_rounds
        self.rate = config.fraction_train
        of = f"{self.rounds} rounds of {short(self.expected)} of {self.clients} clients"
        at = f"at delta {short(self.delta)}"
        given = bool(self.noise)
        if not given:
            found = calibrate(self.budget, self.delta, self.rounds, self.rate)
            self.noise = found.pld
            text = f"epsilon {self.budget} {at} after {of} needs noise {found.pld:.4g} (PLD; {found.rdp:.4g} by RDP)"
        else:
            spent, by_rdp = self.planned, self.mechanism.epsilon(self.rounds, "RDP")
            text = f"noise {self.noise:g} gives epsilon {spent:.4g} {at} after {of} (PLD; {by_rdp:.4g} by RDP)"
            if self.budget is not None and self.budget < spent:
                text += f"; the run ends before epsilon {self.budget} is exceeded"
        self.ledger = Ledger(self.mechanism, self.terms)
        each = f"each client by a coin of its own with probability {short(self.rate)}"
        chosen = {
            "privacy": text,
            "cohorts": f"{each}, from {'the seed (study=true)' if self.study else 'this system, not the seed'}",
            "clipping": self._clipping(),
            CONCEALED: "a secret, and clients' figures are not sent: the central test set alone says how good it is",
        }
        if given and config.resume:  # where the noise is given, a resumed run may do more rounds
            print(f"privacy: {chosen.pop('privacy')}", flush=True)
        return chosen

    def _clipping(self) -> str:
        if not self.adaptive:
            return f"updates are at most {self.bound:g} long"
        both = self._adaptive()
        return (
            f"adaptive from {self.bound:g}, quantile {self.quantile:g}: noise {both.sum_noise:.4g} on the sum and "
            f"{both.count_noise:.4g} on the count within it, together {self.noise:.4g}"
        )

    def strategy(self, strategy: Strategy) -> Strategy:
        """The noisy mean around it."""
        if is_robust(strategy) or any(isinstance(each, TAKE_ALL) for each in nested(strategy)):
            raise UserError(
                f"--mods dp does not go with {type(strategy).__name__}, which must see each client's update: it is for "
                "fedavg, fedprox, fedavgm, fedadam, fedyogi and fedadagrad"
            )
        return NoisyMean(strategy, self)

    def check_arrays(self, names: Collection[str], trainable: Trainable) -> None:
        """Statistics that change in training would have to be released too."""
        if found := statistics_among(names, trainable):
            raise UserError(
                f"--mods dp does not go with BatchNormalization, whose statistics ('{found[0]}') come from "
                "the clients' examples beside the gradients; take GroupNormalization or LayerNormalization"
            )

    def warnings(self, clients: int) -> Iterator[str]:
        """What a user must know who relies on it."""
        if self.ledger is None:
            return
        if self.study:
            yield "NOT PRIVATE: study=true takes cohorts and noise from the seed, which every client knows"
        epsilon = self.planned if self.budget is None else min(self.planned, self.budget)
        if epsilon > WEAK or self.delta >= 1 / self.clients:
            yield (
                f"epsilon {epsilon:.3g} at delta {short(self.delta)} with {self.clients} clients protects hardly "
                "anybody: epsilon should be some 10 at most and delta well below 1 / clients; more clients, fewer of "
                "them in a round, fewer rounds or more noise, or privacy of examples (docs/privacy.md)"
            )

    @property
    def mechanism(self) -> Mechanism:
        """What is counted."""
        return Mechanism(self.noise, self.rate, self.delta)

    @property
    def planned(self) -> float:
        """Epsilon after all rounds that are wanted."""
        return self.mechanism.epsilon(self.rounds)

    @property
    def expected(self) -> float:
        """Clients in a round on average, and what every sum is divided by."""
        return self.rate * self.clients

    @property
    def sum_noise(self) -> float:
        """The deviation of the noise on the sum, in clipping bounds; an adaptive bound has a part of the budget."""
        return self._adaptive().sum_noise if self.adaptive else self.noise

    @property
    def terms(self) -> Mapping[str, float | int | bool | None]:
        """What the ledger's entries have in common."""
        return {
            "noise": self.noise,
            "rate": self.rate,
            "delta": self.delta,
            "clients": self.clients,
            "budget": self.budget,
            "study": self.study,
        }

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """The update alone, clipped, is sent: no loss, no number of examples, and nobody is asked anything else."""
        return private_answer(message, context, call_next)

    # On the server

    def sample(self, eligible: Sequence[int], server_round: int, phase: str) -> Sequence[int] | None:
        """Poisson sampling: a coin for each client that there is; who is drawn and absent counts as no change."""
        if phase != MessageType.TRAIN:
            return ()
        if self.study:
            coins = generator(self.seed, "dp cohort", server_round).random(self.clients).tolist()
        else:
            source = secrets.SystemRandom()
            coins = [source.random() for _ in range(self.clients)]
        return [cid for cid, coin in enumerate(coins) if coin < self.rate]

    def release(
        self, server_round: int, sums: Mapping[str, np.ndarray], bits: Sequence[bool]
    ) -> tuple[dict[str, np.ndarray], float]:
        """The noised sums over the expected number of clients, and epsilon by now, which the ledger has by then.

        `bits` says of each client whether it was within the bound, which follows them where it is adaptive.
        """
        rng = generator(self.seed, "dp noise", server_round) if self.study else _system_generator()
        adaptive = self._adaptive() if self.adaptive else None
        deviation = self.sum_noise * self.bound
        noised = {
            name: (array + rng.normal(0.0, deviation, array.shape)) / self.expected for name, array in sums.items()
        }
        share = adaptive.share_within(bits, rng.standard_normal()) if adaptive else None
        epsilon = self.ledger.charge(server_round, self.bound, share)
        if adaptive:
            self.bound = adaptive.next(self.bound, share)
        return noised, epsilon

    def _adaptive(self) -> AdaptiveBound:
        return AdaptiveBound(self.noise, self.expected, self.quantile, self.clip_rate)

    def callbacks(self) -> Sequence[Callback]:
        """One that opens the ledger and ends the run before the budget is exceeded."""
        return () if self.ledger is None else (PrivacyBudget(self),)

    def summary(self) -> JsonTable:
        """What was spent, for summary.json."""
        if self.ledger is None:
            return {}
        spent = {"epsilon": self.ledger.spent, "delta": self.delta, "noise": self.noise, "private": not self.study}
        return {"privacy": spent}

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Epsilon and bound by round."""
        return section.of(folder)

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """Each update as before, if shorter: the noise comes after it. No figures."""
        length = "a bound that adapts" if self.adaptive else f"{self.bound:g}"
        update = Seen(
            f"its update over all trainable arrays, clipped to {length}, in each round that it is drawn for; whether "
            "it was longer",
            protection="not against the server, which adds the noise to the sum; whoever sees the models alone sees "
            "that sum with noise",
        )
        hidden = {name: Seen(sight[name].what, NOBODY, "not sent") for name in (FIGURES, COUNTS) if name in sight}
        return {**sight, UPDATE: update, **hidden}


def _system_generator() -> np.random.Generator:
    return np.random.default_rng(secrets.randbits(256))
