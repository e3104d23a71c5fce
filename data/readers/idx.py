"""Files in the IDX format of MNIST: a magic number, the sizes, and bytes; plain or .gz.

Magic 0x0000_08_nn: 08 for unsigned bytes, nn dimensions, each size a big-endian uint32. http://yann.lecun.com/exdb/mnist
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from fedkeras.errors import UserError


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in `path`, uint8; memory-mapped if the file is plain.

    Raises UserError for a file that is truncated, damaged, or not an IDX file of so many dimensions.
    """
    header = 4 + 4 * dimensions
    if path.suffix == ".gz":
        try:
            content = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path} is truncated or not a gzip file ({error}); copy or download it again") from None
    elif path.stat().st_size < header:
        raise UserError(f"{path} is truncated: it ends within its header; copy or download it again")
    else:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    start = content[:header].tobytes()
    magic, expected = start[:4].hex(), f"{0x0800 + dimensions:08x}"
    if magic != expected:
        raise UserError(f"{path} is not an IDX file of {dimensions} dimensions: it starts with {magic}, not {expected}")
    shape = np.frombuffer(start[4:], dtype=">u4").astype(int)
    if len(shape) != dimensions or len(content) - header != np.prod(shape):
        raise UserError(
            f"{path} is truncated or damaged: its header promises {' x '.join(map(str, shape))} bytes, "
            f"{max(len(content) - header, 0)} follow; copy or download it again"
        )
    return content[header:].reshape(shape)
