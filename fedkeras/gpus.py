"""Which GPU a process on this machine may see: what `--gpus-per-client` asks for, dealt out before it starts.

A process sees the devices that CUDA_VISIBLE_DEVICES names when CUDA starts in it, and no others, so placement is a
variable in its environment and the learning code knows nothing of it. Processes that share a device share its memory
too: `tensorflow_import` lets each take only what it uses.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from fedkeras.errors import UserError

NEEDS_GPU = "FEDKERAS_NEEDS_GPU"
"""Set in a process that was promised a GPU (--gpus-per-client): it does not train on without one."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
LISTING = ("nvidia-smi", "-L")
LISTING_SECONDS = 20.0
"""The driver's tool takes a second or two where no process keeps the driver awake."""

_UUID = re.compile(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)")


def visible_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that a process of this environment may see, as CUDA_VISIBLE_DEVICES names them; () where there is none.

    Without that variable they are what the driver's nvidia-smi lists, by UUID; of a GPU that is cut into MIG instances
    these, since a process can use one of them and not the whole.
    """
    if VISIBLE in environment:
        return _named(environment[VISIBLE])
    if shutil.which(LISTING[0]) is None:
        return ()
    try:
        listed = subprocess.run(LISTING, capture_output=True, text=True, timeout=LISTING_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return _listed(listed.stdout) if listed.returncode == 0 else ()


def _named(text: str) -> tuple[str, ...]:
    """The devices before the first that is none, such as -1, as CUDA reads the variable."""
    found: list[str] = []
    for word in map(str.strip, text.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-\S+", word):
            break
        found.append(word)
    return tuple(found)


def _listed(text: str) -> tuple[str, ...]:
    """What `nvidia-smi -L` lists: a line for each GPU, under it an indented one for each of its MIG instances."""
    found: list[str] = []
    whole = ""
    for line in text.splitlines():
        if not (uuid := _UUID.search(line)):
            continue
        if uuid[1].startswith("MIG-"):
            if whole and found[-1] == whole:
                found.pop()
            whole = ""
        else:
            whole = uuid[1]
        found.append(uuid[1])
    return tuple(found)


def check_share(share: float) -> None:
    """Raise UserError for a share that is no part of a GPU and no whole number of them."""
    if share > 1 and share != int(share):
        raise UserError(f"--gpus-per-client is {share:g}: a part of one, such as 0.25, or a whole number")


def deal(processes: int, share: float, gpus: Sequence[str]) -> list[tuple[str, ...]]:
    """The GPUs that each of `processes` sees, `share` of one or more each, as evenly as can be.

    Without a share they take turns on the GPUs there are. Raises UserError where there are too few.
    """
    check_share(share)
    if not share:
        return [(gpus[number % len(gpus)],) if gpus else () for number in range(processes)]
    each = max(1, int(share))
    places = len(gpus) // each * (1 if share >= 1 else int(1 / share + 1e-9))
    if places < processes:
        some = f"this machine has {len(gpus)}" if gpus else "there is none on this machine"
        raise UserError(
            f"--gpus-per-client {share:g} has room for {places} processes at once, not for {processes}, and {some}"
            + (f" ({VISIBLE} says so)" if VISIBLE in os.environ else "")
        )
    places_of = [tuple(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]
    return [places_of[number % len(places_of)] for number in range(processes)]


def environment_of(seen: Sequence[str], share: float) -> dict[str, str]:
    """What to set in a process that sees these GPUs; one that was promised a share ends where TensorFlow finds none."""
    own = {VISIBLE: ",".join(seen)} if seen else {}
    return own | ({NEEDS_GPU: f"{share:g}"} if share else {})


def said(dealt: Sequence[Sequence[str]], gpus: Sequence[str]) -> str:
    """One line of who sees what; "" on a machine without a GPU."""
    if not gpus:
        return ""
    users = [sum(gpu in seen for seen in dealt) for gpu in gpus]
    return f"{len(dealt)} client processes on {len(gpus)} GPUs: " + ", ".join(
        f"{gpu} for {number}" for gpu, number in zip(gpus, users, strict=True)
    )
