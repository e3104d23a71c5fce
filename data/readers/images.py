"""Images as arrays of bytes, all of one size: PNG, JPEG, BMP and GIF files, by Pillow, the extra `images`."""

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.data.cache import cached_rows, fingerprint, rows_in_a_block
from fedkeras.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
"""Those that Keras' image_dataset_from_directory takes, in any capitals."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF")
"""By what is in a file, whatever its name ends in: some formats that Pillow knows start other programs."""
GREY = ("1", "L", "LA")
"""Pillow's names of what has no colours. A palette counts as colours."""
CLEAR = ("LA", "RGBA", "PA")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")
FORMAT = 1
"""To be raised when the same files come out as other arrays, so that the cache is made anew."""
LARGE = 32_000_000
"""Bytes of pixels that are worth a place in the cache, where they are written block by block: never whole in memory."""
LARGEST = 4096
"""Pixels of a side that a server may ask its clients' images to be brought to."""


@dataclass(frozen=True)
class Images:
    """`pixels` are bytes, (n, height, width, channels); `notes` say what was decided, by name."""

    pixels: np.ndarray
    notes: dict[str, str]


def parse_size(text: str) -> tuple[int, int, int] | None:
    """--image-size: height, width and channels, 0 for those that the files decide; None if unset. Raises UserError."""
    if not text:
        return None
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) <= LARGEST for part in parts) or len(parts) > 3:
        raise UserError(f"--image-size is '{text}'; give height and width in pixels, such as 64x64, or one number")
    numbers = [int(part) for part in parts]
    if len(numbers) == 3 and numbers[2] not in (1, 3):
        raise UserError(f"--image-size is '{text}'; the third number is 1 for grey, or 3 for colours")
    return numbers[0], numbers[1 % len(numbers)], numbers[2] if len(numbers) == 3 else 0


def read_images(files: Sequence[Path], size: str) -> Images:
    """All of these files, in their order, in the size that --image-size says; unset: in theirs, which must be one.

    Raises UserError, which names the file, for one that cannot be read, and for different sizes without the flag.
    """
    asked, found = parse_size(size), [_look(path) for path in files]
    modes = [mode for _, mode in found]
    if asked is None:
        asked = (*_common_size(files, [shape for shape, _ in found]), 0)
    height, width, channels = asked
    coloured = sum(mode not in GREY for mode in modes)
    notes = {}
    if not channels:
        channels = 3 if coloured else 1
        why = f"{coloured} of {len(files)} images have colours" if coloured else "no image has colours"
        notes["channels"] = f"{'red, green, blue' if coloured else 'grey'}, since {why}"
    if other := sum(shape != (height, width) for shape, _ in found):
        notes["image size"] = f"{other} of {len(files)} images are brought to {height} x {width} (bilinear)"
    if clear := sum(mode in CLEAR for mode in modes):
        notes["transparency"] = f"left out, in {clear} images"
    shape = (height, width, channels)

    def blocks() -> Iterator[np.ndarray]:
        step = rows_in_a_block(shape, np.dtype(np.uint8))
        for start in range(0, len(files), step):
            yield np.stack([_decoded(path, shape) for path in files[start : start + step]])

    kept = None
    if len(files) * math.prod(shape) >= LARGE:  # decided by their bytes here: files may be small, and images large
        names = [f"{path.parent.name}/{path.name}" for path in files]
        key = fingerprint(files, FORMAT, shape, names)
        kept = cached_rows("images", key, blocks, lambda: np.array([len(files)]))
    return Images(np.concatenate(list(blocks())) if kept is None else kept[0], notes)


def _common_size(files: Sequence[Path], shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if len(set(shapes)) > 1:
        other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
        (height, width), _ = Counter(shapes).most_common(1)[0]
        raise UserError(
            f"{files[0]} is {_shown(shapes[0])}, and {files[other]} is {_shown(shapes[other])}: --image-size "
            f"{height}x{width}, or another, brings all images to one size"
        )
    return shapes[0]


def _shown(shape: tuple[int, int]) -> str:
    return f"{shape[0]} pixels high and {shape[1]} wide"


def _look(path: Path) -> tuple[tuple[int, int], str]:
    """Height and width, and Pillow's mode."""
    with _opened(path) as image:
        if image.mode in DEEP:
            raise UserError(f"{path} has more than 8 bits a channel ({image.mode}): save it with 8")
        return (image.height, image.width), image.mode


def _decoded(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    try:
        with _opened(path) as image:
            made = image.convert("L" if channels == 1 else "RGB")
            if made.size != (width, height):
                made = made.resize((width, height), _pillow().Resampling.BILINEAR)
            return np.asarray(made, np.uint8).reshape(shape)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from None


def _opened(path: Path) -> "Image.Image":
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            return pillow.open(path, formats=FORMATS)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from None
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
        raise UserError(f"{path} has more pixels than an image should have: make it smaller") from None


def _unreadable(path: Path, error: Exception) -> UserError:
    said = " ".join(str(error).split()).replace(str(path), "it")
    return UserError(f"{path} is no image that can be read ({said[:120]})")


def _pillow() -> "Image":
    try:
        from PIL import Image
    except ImportError:
        raise UserError("images need Pillow to be read: run `pip install 'fedkeras[images]'`") from None
    return Image
