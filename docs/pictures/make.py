"""Makes the pictures of the README: `python docs/pictures/make.py [NAME ...]`, all of them or those named.

digits and report come from a demo run, live-3 and live-300 from runs that are drawn half way through a round as on a
terminal of 80 x 24, labels from the command of that picture, split from a run of split learning, inversion from one
round with each protection. Needs chromium on the PATH for all but digits, labels and inversion.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from fedkeras.reports import RunFolder, live
from fedkeras.reports.live import Follower, Picture
from fedkeras.reports.live_state import LiveState
from fedkeras.reports.page import render
from fedkeras.workflows.split import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LARGEST = 150_000
"""Bytes of a picture: a README should open quickly."""

LABELS = ["data", "digits", "--partitioner", "dirichlet", "--num-partitions", "8", "--plot", str(HERE / "labels.png")]
LIVE = {
    "live-3": (3, 6, ["--local-epochs", "30"]),
    "live-300": (300, 3, ["--num-partitions", "300", "--fraction-train", "0.9", "--local-epochs", "20"]),
}
"""Name -> clients, the round that is drawn, flags."""
PROTECTIONS = {
    "no protection": "",
    "dp: each update clipped": "dp:epsilon=8,delta=1e-3",
    "dp-sgd": "dp-sgd:epsilon=8,delta=1e-3,clip=1.0",
    "secure aggregation:\nthe sum of the four": "secure-aggregation:max-dropout=0.1",
}
"""Row of inversion -> --mods."""


def main(names: Sequence[str]) -> None:
    """Make these pictures, or all."""
    every = ["digits", "report", "labels", "split", "inversion", *LIVE]
    names = list(names) or every
    if unknown := set(names) - set(every):
        sys.exit(f"make.py: there is no picture {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="fedkeras-pictures-") as name:
        place = Path(name)
        if {"digits", "report"} & set(names):
            run = demo(place)
            if "digits" in names:
                shutil.copy(run / "curves.png", HERE / "digits.png")
            if "report" in names:
                shoot(run / "report.html", HERE / "report.png", 1100, 1190)
        if "labels" in names:
            subprocess.run([sys.executable, "-m", "fedkeras", *LABELS], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        if "split" in names:
            draw_split(place)
        if "inversion" in names:
            draw_inversion()
        for wanted in [wanted for wanted in LIVE if wanted in names]:
            draw_live(place, wanted)
    for wanted in names:
        size = (HERE / f"{wanted}.png").stat().st_size
        print(f"{HERE.name}/{wanted}.png  {size / 1000:.0f} kB")
        if size > LARGEST:
            sys.exit(f"make.py: {wanted}.png is larger than {LARGEST / 1000:.0f} kB")


def demo(place: Path) -> Path:
    """The folder of a run of `make demo`."""
    command = [sys.executable, "-m", "fedkeras", "demo", "--run-dir", str(place / "runs")]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return next((place / "runs").iterdir())


def draw_split(place: Path) -> None:
    """What the report of split learning says of the cut, on a page of its own."""
    command = ["server.py", "--port", "0", "--spawn", "1", "--split", "splitfed", "--num-server-rounds", "1"]
    command += ["--run-dir", str(place / "split")]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    [section] = report.sections(RunFolder(next((place / "split").iterdir())))
    picture = Markup(re.search(r"<svg viewBox.*?</svg>", section.html, re.DOTALL)[0])
    page = place / "split.html"
    page.write_text(render(ALONE, title="split", made="", picture=picture))
    shoot(page, HERE / "split.png", 560, 420)


def draw_inversion() -> None:
    """What the server rebuilds of four clients with one digit each, without and with each protection."""
    import numpy as np

    from fedkeras import data
    from fedkeras.audit.inversion import picture
    from fedkeras.audit.inversion.curious_server import round_of_few
    from fedkeras.audit.inversion.rebuilding import Search, attempts, chosen_victims
    from fedkeras.config import Config

    config = Config(client_weights="uniform", rest_after=0, seed=7)
    parts = [data.load_client(config, cid).train for cid in range(config.num_partitions)]
    victims = chosen_victims(parts, 4, data.open_source(config).classes, np.random.default_rng(5))
    rows, notes = {}, {}
    for name, mods in PROTECTIONS.items():
        view = round_of_few(replace(config, mods=mods), victims.images, victims.labels, victims.classes, 4)
        tries = attempts(view, victims, Search(steps=1000, variation=0.003), 2)
        rows.setdefault("what the clients have", np.concatenate([attempt.originals for attempt in tries]))
        rows[name] = np.concatenate([attempt.rebuilt for attempt in tries])
        notes[name] = [f"{each.psnr:.0f} dB" for attempt in tries for each in attempt.likenesses]
    picture.draw(rows, notes, HERE / "inversion.png")


ALONE = """
{% extends "base" %}
{% block content %}<div class="card">{{ picture }}</div>{% endblock %}
"""


def draw_live(place: Path, name: str) -> None:
    """Run a server and two client processes, and draw what a terminal would show half way through a round."""
    clients, server_round, flags = LIVE[name]
    relay = place / f"{name}.events"
    relay.touch()
    command = ["server.py", "--port", "0", "--spawn", "2", "--run-dir", str(place / name), *flags]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {live.RELAY: str(relay)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout), daemon=True)
    reader.start()
    state = LiveState(clients, 10)
    try:
        with relay.open() as file:
            follower = Follower(file, state)
            while not half_way(state, server_round):
                if process.poll() is not None:
                    sys.exit(f"make.py: the run of {name} ended before round {server_round}")
                time.sleep(0.02)
                follower.catch_up()
        shown, picture = list(printed), Picture(state.snapshot())
    finally:
        process.terminate()  # it finishes the round, and its clients end with it
        process.wait()
    console = Console(width=80, height=24, record=True, force_terminal=True, file=io.StringIO())
    console.print(Text("$ python server.py " + " ".join(["--spawn 2", *flags]), style="bold"))
    for line in shown:
        console.print(Text(line.rstrip()))
    console.print(picture)
    drawing = place / f"{name}.svg"
    console.save_svg(str(drawing), title="fedkeras")
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing.read_text()).groups())
    shoot(drawing, HERE / f"{name}.png", int(width), int(height))


def half_way(state: LiveState, server_round: int) -> bool:
    """Whether half of the round's clients, but not all, have answered."""
    answered, cohort = state.counts()["answered"], state.cohort_size()
    return state.round >= server_round and state.phase == "train" and cohort / 3 <= answered < cohort


def shoot(page: Path, picture: Path, width: int, height: int) -> None:
    """A screenshot of a page by headless Chromium."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(f"make.py: {picture.name} needs chromium on the PATH")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", f"--window-size={width},{height}", f"--screenshot={picture}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([program, *flags, page.absolute().as_uri()], check=True, timeout=60, **quiet)


if __name__ == "__main__":
    main(sys.argv[1:])
