"""`--attacks inversion`: images that the server rebuilds from the updates of clients that hold a few images each.

Geiping et al. 2020, see gradient_matching.py. A client that holds one image and makes one step tells most; the more
images are in an update, and the more steps, the less can be told apart. So this is what an update can give away, and
not what each does: `images` says how many of them a client holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedkeras import data
from fedkeras.audit.attack import Attack
from fedkeras.audit.finding import FigureTable, Finding
from fedkeras.audit.inversion import picture
from fedkeras.audit.inversion.curious_server import View, round_of_few
from fedkeras.audit.inversion.likeness import psnr_of
from fedkeras.audit.inversion.rebuilding import Attempt, Search, Victims, attempts, chosen_victims
from fedkeras.audit.subject import Subject
from fedkeras.config import options
from fedkeras.randomness import generator
from fedkeras.workflows.base import workflow_of

PICTURE = "inversion.png"
MOST_SHOWN = 8
"""Images in the picture, and lines of a protection in the table."""


class Inversion(Attack):
    """`--attacks inversion:images=1,clients=4,steps=1000`: for runs in rounds of a classifier of images.

    Each of `clients` clients holds `images` images of the run's; `steps` are the search's, of which the best of
    `restarts` counts; `variation` is the weight of the total variation, larger for smoother images.
    """

    name = "inversion"

    def __init__(
        self, images: int = 1, clients: int = 4, steps: int = 1000, restarts: int = 1, variation: float = 0.01
    ) -> None:
        for name, value in {"images": images, "clients": clients, "steps": steps, "restarts": restarts}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, not {value}")
        if isinstance(variation, bool) or not isinstance(variation, int | float) or not 0 <= variation < float("inf"):
            raise ValueError(f"variation must be 0 or more, not {variation}")
        self.images, self.clients = images, clients
        self.search = Search(steps, restarts, float(variation))

    def reason_against(self, subject: Subject) -> str:
        """It knows plain SGD, updates and classes of images that are here."""
        config = subject.config
        if not workflow_of(config).sends_updates:
            return "its clients send no updates of a global model"
        if not config.uses_catalogue or not config.deals:
            return "its clients' examples are their own, and not on this machine"
        if config.optimizer not in ("default", "sgd") or options(config.optimizer_args, "optimizer-args"):
            return "it simulates plain SGD, and the clients' optimizer is another"
        source = data.open_source(config)
        if source.targets is not None or len(source.input_shape) != 3:
            return f"it is for classes of images, and {source.name} has none"
        return ""

    def run(self, subject: Subject) -> Sequence[Finding]:
        """One finding, of the updates as they are and as the run's mods leave them, and a picture of all."""
        config, found = subject.config, {}
        parts = [each.train for each in subject.examples.values()]
        rng = generator(config.seed, "audit inversion")
        victims = chosen_victims(parts, self.images * self.clients, data.open_source(config).classes, rng)
        protections = {"without mods": ""} | ({f"--mods {config.mods}": config.mods} if config.mods else {})
        for name, mods in protections.items():
            subject.say(f"inversion: a round of {self.clients} clients, images of each: {self.images}; {name}")
            own = replace(config, mods=mods)
            view = round_of_few(own, victims.images, victims.labels, victims.classes, self.clients)
            found[name] = view, attempts(view, victims, self.search, config.seed)
        return [self._finding(subject, victims, found)]

    def _finding(
        self, subject: Subject, victims: Victims, found: Mapping[str, tuple[View, Sequence[Attempt]]]
    ) -> Finding:
        figures: dict[str, float | int | str] = {}
        rows, notes = [], []
        for name, (view, tries) in found.items():
            every = [each for attempt in tries for each in attempt.likenesses]
            figures[f"{name}: PSNR in dB (mean)"] = sum(each.psnr for each in every) / len(every)
            figures[f"{name}: SSIM (mean)"] = sum(each.ssim for each in every) / len(every)
            figures[f"{name}: found among all images"] = f"{sum(each.found for each in every)} of {len(every)}"
            known = [attempt for attempt in tries if attempt.labels_right is not None]
            if known:
                right = sum(attempt.labels_right or 0 for attempt in known)
                figures[f"{name}: labels read off"] = f"{right} of {len(every)}"
            notes.append(f"{name}: the server sees {view.line.whose} {view.line.what} ({view.line.protection}).")
            rows += _rows(name, tries)
        figures["a guess: the average image of the label: PSNR in dB (mean)"] = sum(
            psnr_of(float(((victims.scaled(victims.images[i]) - victims.average(label)) ** 2).mean()))
            for i, label in enumerate(victims.labels)
        ) / len(victims.labels)
        self._draw(subject, victims, found)
        heads = "protection", "seen", "label", "MSE", "PSNR", "SSIM", "found", "distance"
        epochs, batch = subject.config.local_epochs, subject.config.batch_size
        return Finding(
            self.name,
            "gradient inversion",
            f"the global weights of round 1 and what reaches the server of clients that hold {self.images} image(s) "
            f"each, and knows learning rate, {epochs} epoch(s) of batches of {batch}, and their order",
            figures=figures,
            notes=notes,
            tables=[FigureTable("Each image", heads, rows)],
            pictures=[PICTURE],
        )

    def _draw(self, subject: Subject, victims: Victims, found: Mapping[str, tuple[View, Sequence[Attempt]]]) -> None:
        tries = {name: each[1] for name, each in found.items()}
        shown = {"original": _images([attempt.originals for attempt in next(iter(tries.values()))])}
        marks = {}
        for name, of_view in tries.items():
            label = picture.wrapped(name)
            shown[label] = _images([attempt.rebuilt for attempt in of_view])
            marks[label] = [f"{each.psnr:.1f} dB" for attempt in of_view for each in attempt.likenesses][:MOST_SHOWN]
        picture.draw(shown, marks, subject.out / PICTURE)


def _images(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts))[:MOST_SHOWN]


def _rows(name: str, tries: Sequence[Attempt]) -> list[tuple[float | int | str | None, ...]]:
    return [
        (name, attempt.seen.whose, int(label), each.mse, each.psnr, each.ssim, "yes" if each.found else "no",
         attempt.objective)
        for attempt in tries
        for label, each in zip(attempt.seen.labels, attempt.likenesses, strict=True)
    ][:MOST_SHOWN]  # fmt: skip
