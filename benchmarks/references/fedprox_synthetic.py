"""FedProx on synthetic devices, with stragglers: figures 1 and 2 of the paper.

T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in Heterogeneous Networks",
MLSys 2020, arXiv:1812.06127. 30 devices, multinomial logistic regression, 10 devices a round, 20 local epochs of SGD
0.01, batch 10, 200 rounds. 0, 50 or 90 % of a round's devices are stragglers: FedAvg drops them, FedProx takes their
partial work, with mu = 0 and mu = 1. Without stragglers FedAvg is FedProx with mu = 0.

The paper shows curves of the training loss over all devices and no numbers, so what is compared is the order.
"""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.references.experiment import Curve, Figures, Reference, Setting, in_common, spread
from fedkeras.config import Config

SETS = {"iid": "iid=true", "0-0": "alpha=0,beta=0", "0.5-0.5": "alpha=0.5,beta=0.5", "1-1": "alpha=1,beta=1"}
STRAGGLERS = (0, 50, 90)
ROUNDS, STEADY = 200, 20
"""Rounds; and the last ones, whose mean and spread say where a curve ends and how restless it is."""


def settings() -> list[Setting]:
    """The sets by stragglers by method; without stragglers dropping nobody is taking all."""
    made = []
    for name, options in SETS.items():
        for share in STRAGGLERS:
            methods = ("fedavg", "fedprox0", "fedprox1") if share else ("fedavg", "fedprox1")
            made += [
                Setting(f"{name}-{share}-{method}", _config(options, share, method), "a curve", ROUNDS)
                for method in methods
            ]
    return made


def _config(options: str, share: int, method: str) -> Config:
    mods = f"stragglers:share={share / 100}" + (",drop=true" if method == "fedavg" else "") if share else ""
    return Config(
        dataset=f"synthetic:{options}",
        partitioner="natural",
        num_partitions=30,
        test_fraction=0.0,
        fraction_train=1 / 3,
        local_epochs=20,
        batch_size=10,
        learning_rate=0.01,
        strategy="fedavg" if method == "fedavg" else "fedprox",
        proximal_mu=float(method.removeprefix("fedprox")) if method != "fedavg" else Config.proximal_mu,
        mods=mods,
        mode="benchmarks.references.training_loss:OnTrainingExamples",
        rest_after=0,
    )


def figures_of(setting: Setting, curves: Sequence[Curve]) -> Figures:
    """The training loss: the lowest, and the mean of the last 20 rounds; and the test accuracy there."""
    best = [curve.best("train_loss", largest=False) for curve in curves]
    last = [curve.over_last("train_loss", STEADY) for curve in curves]
    accuracy = [curve.over_last("accuracy", STEADY) for curve in curves]
    ends = [[point["train_loss"] for point in curve.points[-STEADY:]] for curve in curves]
    restless = [statistics.stdev(losses) for losses in ends if len(losses) > 1]
    text = f"loss {spread(last, 3)} (accuracy {100 * statistics.fmean(accuracy):.1f} %)"
    numbers = {"best_loss": best, "last_loss": last, "last_accuracy": accuracy, "deviation_of_last_loss": restless}
    return Figures(f"loss {spread(best, 3)}", text, numbers)


def conclusions(curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    """The paper's claims, each on the training loss over the last 20 rounds that both have, mean over seeds."""
    said: list[str] = []

    def claim(text: str, *rising: str) -> None:
        """That the loss ends the higher the later a setting stands among `rising`."""
        if not all(name in curves for name in rising):
            return
        alike, rounds = in_common({name: curves[name] for name in rising})
        if rounds:
            ends = [statistics.fmean(one.over_last("train_loss", STEADY) for one in alike[name]) for name in rising]
            verdict = "holds" if ends == sorted(ends) else "does not hold"
            seeds = len(alike[rising[0]])
            of = f"in the means of {seeds} seeds" if seeds > 1 else "with one seed, which tells nothing from chance,"
            figures = " against ".join(f"{end:.3f}" for end in ends)
            said.append(f"{text}: {verdict} {of} after {rounds} rounds ({figures})")

    for name in SETS:
        for share in STRAGGLERS[1:]:
            dropping, all_work, near = (f"{name}-{share}-{method}" for method in ("fedavg", "fedprox0", "fedprox1"))
            claim(f"{name}, {share} % stragglers: partial work (mu 0) ends lower than dropping", all_work, dropping)
            claim(f"{name}, {share} % stragglers: mu 1 ends lower than mu 0", near, all_work)
        if name != "iid":
            claim(f"{name}, no stragglers: mu 1 ends lower than mu 0", f"{name}-0-fedprox1", f"{name}-0-fedavg")
    claim("iid, no stragglers: the proximal term only slows down", "iid-0-fedavg", "iid-0-fedprox1")
    claim("no stragglers: FedAvg ends higher the more the devices differ", *(f"{name}-0-fedavg" for name in SETS))
    return said


def reference() -> Reference:
    """Three seeds of all."""
    return Reference(
        title="FedProx on synthetic devices (Li et al., MLSys 2020)",
        source="arXiv:1812.06127, figures 1 and 2 and their companions in the appendix: curves, no numbers",
        differs=(
            "alpha changes no label, by the paper's formulas (see data/synthetic.py): the sets differ in beta alone",
            "the devices are another draw of the same law; initial weights are Glorot's",
            "stragglers draw 1 to 20 epochs as in the paper's text; the authors' code draws 1 to 19",
        ),
        settings=settings(),
        seeds=(42, 43, 44),
        minutes="about 2 hours on one core (32 settings, 3 seeds)",
        figures_of=figures_of,
        conclusions=conclusions,
        quick_settings=("1-1-90-fedavg", "1-1-90-fedprox0", "1-1-90-fedprox1"),
        quick_rounds=5,
    )
