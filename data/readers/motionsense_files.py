"""MotionSense's files: <activity>_<trial>/sub_<subject>.csv in a zip or a folder, parsed into one array of rows."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from fedkeras.data.cache import Arrays
from fedkeras.errors import UserError

ACTIVITIES = ("dws", "ups", "wlk", "jog", "std", "sit")
SIGNALS = tuple(
    f"{sensor}.{axis}"
    for sensor, axes in (
        ("attitude", ("roll", "pitch", "yaw")),
        ("gravity", "xyz"),
        ("rotationRate", "xyz"),
        ("userAcceleration", "xyz"),
    )
    for axis in axes
)
FOLDER = "A_DeviceMotion_data"
_NAME = re.compile(rf"(?:^|/)({'|'.join(ACTIVITIES)})_(\d+)/sub_(\d+)\.csv$")
_OTHERS = re.compile(r"(^|/)(B_Accelerometer_data|C_Gyroscope_data)/")  # in Kaggle's archive, with the same names


@dataclass(frozen=True)
class Recordings:
    """Where the recordings are: `names` within `root` (a zip or a folder); `files` decide whether a cache is stale."""

    root: Path
    names: tuple[str, ...]
    files: tuple[Path, ...]


def find_recordings(path: Path) -> Recordings:
    """Look at and in `path`; raises UserError where there is no recording."""
    advice = f"it must be or hold {FOLDER}.zip, or the folder unpacked from it"
    if path.is_file():
        return _in_zip(path, advice)
    if not path.is_dir():
        raise UserError(f"--data-dir {path} does not exist; {advice}")
    for folder in (path / FOLDER / FOLDER, path / FOLDER, path):  # Kaggle's copy is nested twice
        files = sorted(folder.glob("*_*/sub_*.csv"))
        names = tuple(name for name in (f.relative_to(folder).as_posix() for f in files) if _NAME.search(name))
        if names:
            return Recordings(folder, names, tuple(folder / name for name in names))
    if (path / f"{FOLDER}.zip").is_file():
        return _in_zip(path / f"{FOLDER}.zip", advice)
    raise UserError(f"--data-dir {path} holds no recordings of MotionSense; {advice}")


def read_recordings(found: Recordings) -> Arrays:
    """Parse every recording.

    Returns rows: float32 (samples, 12), all recordings one after another, signals in the order of SIGNALS; and for
    each recording its `start` and `length` in rows, `activity` (position in ACTIVITIES), `trial` and `subject`.
    """
    about = sorted((ACTIVITIES.index(a), int(t), int(s), name) for name in found.names for a, t, s in [_parts(name)])
    if found.root.is_dir():
        rows = [_read_csv((found.root / name).read_bytes(), str(found.root / name)) for *_, name in about]
    else:
        with zipfile.ZipFile(found.root) as archive:
            rows = [_read_csv(_member(archive, name), f"{found.root}: {name}") for *_, name in about]
    length = np.array([len(row) for row in rows])
    activity, trial, subject = (np.array([entry[i] for entry in about]) for i in range(3))
    return {
        "rows": np.concatenate(rows),
        "start": np.cumsum(length) - length,
        "length": length,
        "activity": activity,
        "trial": trial,
        "subject": subject,
    }


def _in_zip(path: Path, advice: str) -> Recordings:
    try:
        with zipfile.ZipFile(path) as archive:
            everything = archive.namelist()
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is truncated or not a zip file ({error}); copy or download it again") from None
    names = {name for name in everything if _NAME.search(name) and not _OTHERS.search(name)}
    if not names:
        raise UserError(f"{path} holds no recordings of MotionSense; {advice}")
    return Recordings(path, tuple(sorted(names)), (path,))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive.filename} is damaged at {name} ({error}); copy or download it again") from None


def _parts(name: str) -> tuple[str, str, str]:
    return _NAME.search(name).groups()


def _read_csv(content: bytes, where: str) -> np.ndarray:
    """The twelve signals of one recording, float32 (samples, 12); the first column of the file counts rows."""
    import pandas

    try:
        table = pandas.read_csv(BytesIO(content), encoding="utf-8-sig")
        missing = [signal for signal in SIGNALS if signal not in table.columns]
        if missing:
            raise UserError(f"{where} has no column {', '.join(missing)}")
        rows = table[list(SIGNALS)].to_numpy(dtype=np.float32)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{where} is not a recording of MotionSense ({error})") from None
    if not np.isfinite(rows).all():
        raise UserError(f"{where} holds values that are missing or not finite")
    return rows
