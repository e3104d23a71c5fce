"""The wheel as a user gets it, made by hatchling without the network."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build(target: str, folder: Path, source: Path = ROOT) -> Path:
    """What hatchling makes of `source` in `folder`: "wheel", "wheel:editable" or "sdist"."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


def unpacked_wheel(folder: Path) -> Path:
    """A folder that holds what the wheel brings."""
    with zipfile.ZipFile(build("wheel", folder / "dist")) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"
