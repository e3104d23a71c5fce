"""What a model file may be before anything is read or made of it: its members, its links and its sizes.

A .keras file is a zip archive and holds an HDF5 file, a .h5 file is one. Both formats can say that a few bytes are
gigabytes, and that an array's bytes are those of another file. Keras writes none of that. So members and objects are
walked by their headers first, without Keras and without reading an array; and where a file was made by somebody else,
this is done in a process of its own (`file_child`).
"""

import io
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py

from fedkeras.errors import UserError, sentences_of

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets/"

LARGEST_JSON = 16_000_000
"""Bytes of a configuration."""
LARGEST_RATIO = 100
"""How many bytes one byte of the file may become. Keras compresses nothing; deflate reaches some 1000 on zeros."""
SMALL = 16_000_000
"""What may be made of a file of any size."""
MOST_MEMBERS, MOST_OBJECTS, DEEPEST = 10_000, 100_000, 100
NUMBERS = "biuf"
"""Kinds of numpy's types that weights have; ml_dtypes' are of the kind V and of one or two bytes."""
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""HDF5's filters that come with h5py: another one is a library that HDF5 would look for and load."""


@dataclass(frozen=True)
class Holds:
    """How many numbers a file's arrays have, the optimizer's among them."""

    numbers: int


class Unsafe(UserError):
    """A model file that is none which Keras writes."""


def check_file(path: Path) -> Holds:
    """Walk a .keras or .h5 file. Raises UserError, or what zipfile and h5py raise, for one that is not to be read."""
    if not path.is_file():
        raise UserError(f"there is no model file {path}")
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                return Holds(_walk(file, path.stat().st_size))
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path.stat().st_size)
            if WEIGHTS not in archive.namelist():
                return Holds(0)
            content = archive.read(WEIGHTS)
        with h5py.File(io.BytesIO(content), "r") as file:
            return Holds(_walk(file, len(content)))
    except Unsafe as error:
        raise UserError(f"cannot read the model file {path}: {error}") from None
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, RuntimeError, EOFError) as error:
        raise UserError(f"cannot read the model file {path}: {sentences_of(error)[0]}") from None


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MOST_MEMBERS:
        raise Unsafe(f"it holds {len(members)} files, and no model has so many")
    names = [member.filename for member in members]
    if len({*names}) < len(names):
        raise Unsafe("it holds two files of one name")
    for member in members:
        _check_member(member)
    whole, packed = sum(member.file_size for member in members), sum(member.compress_size for member in members)
    if packed > size or whole > SMALL + LARGEST_RATIO * size:
        raise Unsafe(f"its {size} bytes would become {whole}")


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    plain = ".." not in parts and "\\" not in name and not name.startswith("/") and ":" not in name and "\0" not in name
    if not plain or (name not in (CONFIG, METADATA, WEIGHTS) and not name.startswith(ASSETS)):
        raise Unsafe(f"it holds {name[:100]!r}, which is no part of a model")
    if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1:
        raise Unsafe(f"its {name} is a link, or encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unsafe(f"its {name} is compressed in a way that Keras does not use")
    if name in (CONFIG, METADATA) and member.file_size > LARGEST_JSON:
        raise Unsafe(f"its {name} has {member.file_size} bytes; at most {LARGEST_JSON} are read")
    if member.file_size > SMALL and member.file_size > LARGEST_RATIO * member.compress_size:
        raise Unsafe(f"the {member.compress_size} bytes of its {name} would become {member.file_size}")


def _walk(file: h5py.File, size: int) -> int:
    """The count of numbers in all datasets of an HDF5 file of `size` bytes. Raises Unsafe."""
    numbers, whole, seen = 0, 0, set[int]()
    todo: list[tuple[h5py.Group, int]] = [(file, 0)]
    while todo:  # not by recursion: whoever made the file decides how deep it is
        group, depth = todo.pop()
        _check_attributes(group)
        for name, item in _items(group):
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or depth > DEEPEST or len(seen) > MOST_OBJECTS:
                raise Unsafe(f"its '{name[:60]}' lies in two places, too deep, or is one of too many")
            seen.add(address)
            if isinstance(item, h5py.Group):
                todo.append((item, depth + 1))
                continue
            whole += _check_dataset(name, item)
            numbers += int(item.size or 0)
            if whole > SMALL + LARGEST_RATIO * size:
                raise Unsafe(f"its {size} bytes would become {whole} of weights")
    return numbers


def _items(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
            raise Unsafe(f"its '{name[:60]}' is a link to {kind}")
        item = group[name]
        if not isinstance(item, h5py.Group | h5py.Dataset):
            raise Unsafe(f"its '{name[:60]}' is neither a group nor an array")
        yield name, item


def _check_dataset(name: str, item: h5py.Dataset) -> int:
    """The bytes that it has when it is read."""
    _check_attributes(item)
    if item.external:
        raise Unsafe(f"the bytes of its '{name[:60]}' lie in another file")
    if item.is_virtual:
        raise Unsafe(f"its '{name[:60]}' is a view of another file")
    layout = item.id.get_create_plist()
    if foreign := [code for i in range(layout.get_nfilters()) if (code := layout.get_filter(i)[0]) not in FILTERS]:
        raise Unsafe(f"its '{name[:60]}' needs the HDF5 filter {foreign[0]}")
    kind, itemsize = item.dtype.kind, item.dtype.itemsize
    if kind not in NUMBERS and not (kind == "V" and itemsize <= 2) and kind != "S":
        raise Unsafe(f"its '{name[:60]}' holds {item.dtype}, which are no numbers")
    whole, stored = int(item.size or 0) * itemsize, item.id.get_storage_size()
    if whole > SMALL and whole > LARGEST_RATIO * stored:
        raise Unsafe(f"the {stored} bytes of its '{name[:60]}' would become {whole}")
    return whole


def _check_attributes(item: h5py.Group | h5py.Dataset) -> None:
    count = h5py.h5a.get_num_attrs(item.id)
    if count > MOST_MEMBERS:
        raise Unsafe(f"it has {count} attributes in one place")
    for number in range(count):
        found = h5py.h5a.open(item.id, index=number)
        size = found.get_space().get_simple_extent_npoints() * found.get_type().get_size()
        if size > LARGEST_JSON:
            raise Unsafe(f"one of its attributes has {size} bytes; at most {LARGEST_JSON} are read")
