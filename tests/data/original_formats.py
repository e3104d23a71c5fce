"""Writes tiny files in the formats the data sets are published in."""

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
HEADER = (
    ",attitude.roll,attitude.pitch,attitude.yaw,gravity.x,gravity.y,gravity.z,rotationRate.x,rotationRate.y,"
    "rotationRate.z,userAcceleration.x,userAcceleration.y,userAcceleration.z"
)


def idx_bytes(array: np.ndarray) -> bytes:
    """`array` as LeCun describes the format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def mnist_arrays(train: int = 30, test: int = 10) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", train), ("test", test)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"y_{part}"] = (np.arange(n) % 10).astype(np.uint8)
    return arrays


def write_idx(folder: Path, arrays: dict[str, np.ndarray], zipped: bool = False, dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in IDX_NAMES.items():
        name = name.replace("-idx", ".idx") if dotted else name
        content = idx_bytes(arrays[key])
        path = folder / (name + ".gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def leaf_image(ink: dict[int, float]) -> list[float]:
    """A white page of 784 pixels (1.0) with `ink` {pixel: LEAF's value, 0.0 is black}."""
    page = [1.0] * 784
    for pixel, value in ink.items():
        page[pixel] = value
    return page


def write_leaf(path: Path, writers: dict[str, tuple[list, list]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "users": list(writers),
        "num_samples": [len(y) for _, y in writers.values()],
        "user_data": {writer: {"x": x, "y": y} for writer, (x, y) in writers.items()},
    }
    path.write_text(json.dumps(content))
    return path


def recording(rows: int, base: float = 0.0) -> str:
    """A recording whose value in row r and signal s is base + r + s / 100."""
    lines = [f"{r}," + ",".join(f"{base + r + s / 100:.2f}" for s in range(12)) for r in range(rows)]
    return "\n".join([HEADER, *lines]) + "\n"


def write_motionsense(folder: Path, recordings: dict[str, str]) -> Path:
    for name, text in recordings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def zip_motionsense(path: Path, recordings: dict[str, str], prefix: str = "A_DeviceMotion_data/") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in recordings.items():
            archive.writestr(prefix + name, text)
    return path
