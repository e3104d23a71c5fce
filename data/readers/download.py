"""Fetching a file once, checked by its sum, never leaving half of it behind."""

import logging
import os
from pathlib import Path

from fedkeras.errors import UserError

log = logging.getLogger("fedkeras.data")

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_MB = 11
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def fetch_mnist(folder: Path) -> Path:
    """Keras' mnist.npz in `folder`; from the address in FEDKERAS_MNIST_URL where that is set (a mirror)."""
    url = os.environ.get("FEDKERAS_MNIST_URL") or MNIST_URL
    instead = "give --data-dir with MNIST's four files or mnist.npz"
    return fetch(url, MNIST_SHA256, folder, "mnist.npz", instead, MNIST_MB)


def say(what: str, megabytes: int, folder: str | Path, why: str) -> None:
    """Nothing is downloaded without a word: what, how much, where to, and why."""
    log.warning("%s: downloading %s (%d MB) to %s", why, what, megabytes, folder)  # the only sign of what is waited for


NOT_GIVEN = "--data-dir is not given"


def fetch(url: str, sha256: str, folder: Path, name: str, instead: str, megabytes: int) -> Path:
    """Download `url` to `folder / name` unless it is there, and check its SHA-256; `megabytes` are said.

    Raises UserError, ending with what to do `instead`, where there is no network or the sum is wrong.
    """
    import pooch

    if not (folder / name).is_file():
        say(url, megabytes, folder, NOT_GIVEN)
    # pooch writes to a temporary file, and renames it once the sum is right
    pooch.get_logger().setLevel("ERROR")
    downloader = pooch.HTTPDownloader(timeout=30)
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=downloader))
    except ValueError as error:
        reason = "its sum is wrong" if "hash" in str(error) else str(error)
        raise UserError(f"{url} was not what it should be ({reason}); {instead}") from None
    except OSError as error:  # requests' errors are OSErrors too
        reason = str(error.__cause__ or error).split("(Caused by")[-1]
        raise UserError(f"cannot download {url} ({reason.strip(' ()')}); {instead}") from None
