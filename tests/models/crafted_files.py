"""Model files that no Keras writes, each a few kilobytes: what was found in Keras, and what is of the same kind."""

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Craft = Callable[[Path], None]

SECRET = "secret.h5"
"""A file beside the crafted one, whose content must not come into a model."""


def dense(units: int = 2, **more: object) -> dict:
    """A layer as a .keras file describes it."""
    config = {"name": "d", "units": units, "activation": "linear", "use_bias": True, **more}
    return {"module": "keras.layers", "class_name": "Dense", "config": config, "registered_name": None}


def sequential(*layers: dict, inputs: int = 3) -> dict:
    """A Sequential model as a .keras file describes it."""
    first = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, inputs], "name": "i"},
    }
    config = {"name": "s", "layers": [first, *layers], "build_input_shape": [None, inputs]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def weights(change: Callable[[h5py.File], None] | None = None) -> bytes:
    """The HDF5 file in a .keras file of `sequential(dense())`, after a change."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        own = file.create_group("layers/dense/vars")
        own["0"], own["1"] = np.ones((3, 2), np.float32), np.zeros(2, np.float32)
        file.create_group("vars")
        if change:
            change(file)
    return content.getvalue()


def keras_file(path: Path, model: dict | None = None, content: bytes | None = None, **members: bytes) -> None:
    """A .keras file, stored as Keras stores it."""
    model = sequential(dense()) if model is None else model
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", weights() if content is None else content)
        for name, text in members.items():
            archive.writestr(name, text)


def _packed(name: str, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Craft:
    def craft(path: Path) -> None:
        keras_file(path)
        with zipfile.ZipFile(path) as archive:
            held = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for member, text in (held | {name: content}).items():
                archive.writestr(member, text)

    return craft


def _member(name: str, content: bytes = b"x", mode: int = 0) -> Craft:
    def craft(path: Path) -> None:
        keras_file(path)
        with zipfile.ZipFile(path, "a") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)

    return craft


def overlapping(path: Path) -> None:
    """Many members whose bytes are those of one (D. Fifield, "A better zip bomb", WOOT 2019)."""
    content = bytes(10_000_000)
    keras_file(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/0", content)
        for number in range(1, 200):
            twin = zipfile.ZipInfo(f"assets/{number}")
            first = archive.getinfo("assets/0")
            twin.header_offset, twin.CRC, twin.compress_type = first.header_offset, first.CRC, first.compress_type
            twin.compress_size, twin.file_size = first.compress_size, first.file_size
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin


def _stored_elsewhere(path: Path, file: h5py.File) -> None:
    del file["layers/dense/vars/1"]
    (path.parent / "raw.bin").write_bytes(np.full(2, 7, np.float32).tobytes())
    file["layers/dense/vars"].create_dataset("1", (2,), "f4", external=[(str(path.parent / "raw.bin"), 0, 8)])


def _linked(path: Path, file: h5py.File, link: object) -> None:
    with h5py.File(path.parent / SECRET, "w") as other:
        other["w"] = np.full(2, 7, np.float32)
    del file["layers/dense/vars/1"]
    file["layers/dense/vars/1"] = link


def _virtual(path: Path, file: h5py.File) -> None:
    _linked(path, file, np.zeros(1))
    del file["layers/dense/vars/1"]
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(path.parent / SECRET), "w", (2,))
    file["layers/dense/vars"].create_virtual_dataset("1", layout)


def _huge(file: h5py.File, **options: object) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (60_000, 30_000), "f4", **options)


def _in_circles(path: Path, file: h5py.File) -> None:
    file["layers/dense/again"] = file["layers"]


def _filtered(path: Path, file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2,))
    plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, b"odd", h5py.h5t.IEEE_F32LE, space, plist)


def _text(path: Path, file: h5py.File) -> None:
    file.create_dataset("words", data=["a", "b"], dtype=h5py.string_dtype())


def _references(path: Path, file: h5py.File) -> None:
    file.create_dataset("ref", data=[file["layers"].ref], dtype=h5py.ref_dtype)


def _h5(change: Callable[[Path, h5py.File], None]) -> Craft:
    def craft(path: Path) -> None:
        keras_file(path, content=weights(lambda file: change(path, file)))

    return craft


def _external(path: Path, file: h5py.File) -> None:
    _linked(path, file, h5py.ExternalLink(str(path.parent / SECRET), "/w"))


def _soft(path: Path, file: h5py.File) -> None:
    _linked(path, file, h5py.SoftLink("/layers/dense/vars/0"))


def _never_written(path: Path, file: h5py.File) -> None:
    _huge(file)


def _compressed(path: Path, file: h5py.File) -> None:
    _huge(file, chunks=(1000, 1000), compression="gzip")


BLANKS, ZEROS, LINK = b"{}" + b" " * 20_000_000, bytes(40_000_000), stat.S_IFLNK | 0o777

CONTAINERS: dict[str, tuple[Craft, str]] = {
    "a configuration of 20 MB of blanks in 20 kB (#23010)": (_packed("config.json", BLANKS), "config.json has"),
    "metadata of 20 MB": (_packed("metadata.json", BLANKS), "metadata.json has"),
    "weights of 40 MB in 40 kB (CVE-2026-0897)": (_packed("model.weights.h5", ZEROS), "would become"),
    "an asset of 40 MB in 40 kB (#23101)": (_packed("assets/v.txt", ZEROS), "would become"),
    "members that share their bytes": (overlapping, "would become"),
    "compressed by lzma": (_packed("assets/v", b"x" * 100, zipfile.ZIP_LZMA), "in a way that Keras does not use"),
    "a path that leads out (CVE-2025-12060)": (_member("assets/../../x"), "no part of a model"),
    "an absolute path": (_member("/etc/x"), "no part of a model"),
    "a drive": (_member("assets/C:x"), "no part of a model"),
    "a symbolic link (#23015)": (_member("assets/l", b"/etc/passwd", LINK), "is a link"),
    "another configuration of the same name": (_member("config.json", b"{}"), "two files of one name"),
    "weights as .npz, which are taken first or not (#23016)": (_member("model.weights.npz"), "no part of a model"),
    "a pickle": (_member("model.pkl"), "no part of a model"),
    "external storage (CVE-2026-1669)": (_h5(_stored_elsewhere), "lie in another file"),
    "an external link (CVE-2026-1669)": (_h5(_external), "link to another file"),
    "a soft link (#22900)": (_h5(_soft), "link to another place"),
    "a virtual data set (#22976)": (_h5(_virtual), "a view of another file"),
    "7 GB that were never written (CVE-2026-0897)": (_h5(_never_written), "would become 7200000000"),
    "7 GB, chunked and compressed": (_h5(_compressed), "would become"),
    "groups in a circle": (_h5(_in_circles), "in two places"),
    "a filter of its own, which HDF5 would look for": (_h5(_filtered), "needs the HDF5 filter 32099"),
    "texts of any length": (_h5(_text), "no numbers"),
    "references": (_h5(_references), "no numbers"),
    "no archive": (lambda path: path.write_bytes(b"PK\x03\x04"), "not a zip file"),
    "no HDF5": (lambda path: keras_file(path, content=b"\x89HDF"), "cannot read the model file"),
}
"""Name -> what makes it, and what is said of it. Numbers with a # are of Keras' own repository."""


def of(name: str, module: str = "keras.layers", /, **config: object) -> dict:
    """Any object as Keras describes it."""
    return {"module": module, "class_name": name, "config": config}


def function(name: str, module: str) -> dict:
    """A function as Keras describes it."""
    return {"module": module, "class_name": "function", "config": name}


GADGET = function("eval", "builtins")
LAMBDA = of("Lambda", name="l", function={"class_name": "__lambda__", "config": {"code": "4wEAAA=="}})
GLOBAL = "enable_unsafe_deserialization"


def _compiled(optimizer: dict) -> dict:
    """A model that was compiled: of one within another, Keras makes the optimizer as well."""
    return sequential(dense()) | {"compile_config": {"optimizer": optimizer, "loss": "mse"}}


CONFIGURATIONS: dict[str, tuple[dict, str]] = {
    "a Lambda (CVE-2024-3660)": (sequential(LAMBDA), "a Lambda layer"),
    "any module's function (CVE-2025-1550)": (sequential(of("Popen", "subprocess", args=["true"])), "its own, 'Popen'"),
    "Keras' own function that fetches files (CVE-2025-8747)": (
        sequential(dense(activation=function("get_file", "keras.utils"))),
        "'get_file'",
    ),
    "a Lambda in a model in a model (CVE-2025-9905)": (sequential(sequential(sequential(LAMBDA))), "a Lambda layer"),
    "what would end Keras' safe mode (CVE-2025-9906)": (sequential(of(GLOBAL, "keras.config")), GLOBAL),
    "the same as a function (CVE-2025-9906)": (sequential(dense(activation=function(GLOBAL, "keras.config"))), GLOBAL),
    "a vocabulary from a path (CVE-2025-12058)": (
        sequential(of("StringLookup", vocabulary="/etc/passwd")),
        "reads the file '/etc/passwd'",
    ),
    "a vocabulary from the network (CVE-2025-12058)": (
        sequential(of("IntegerLookup", vocabulary="gs://x/y")),
        "reads the file 'gs://x/y'",
    ),
    "a pickle in a layer (CVE-2025-49655)": (
        sequential(of("TorchModuleWrapper") | {"config": {"module": "gASV"}}),
        "TorchModuleWrapper",
    ),
    "another file that runs": (sequential(of("TFSMLayer", filepath="/x")), "TFSMLayer"),
    "a Lambda without a word of lambdas (Lambda.from_config)": (
        sequential(of("Lambda", function="os.system", function_type="function")),
        "a Lambda layer",
    ),
    "compile_config within a model within it": (sequential(_compiled(of("system", "os"))), "'system'"),
    "compile_config two models deep": (sequential(sequential(_compiled(GADGET))), "'eval'"),
    "a wrapper's layer": (sequential(of("TimeDistributed", layer=LAMBDA)), "a Lambda layer"),
    "an initializer": (sequential(dense(kernel_initializer=of("abort", "os"))), "'abort'"),
    "a regularizer": (sequential(dense(kernel_regularizer=GADGET)), "'eval'"),
    "a policy of types": (sequential(dense(dtype=of("loads", "pickle"))), "'loads'"),
    "build_config": (sequential(dense() | {"build_config": {"x": GADGET}}), "'eval'"),
    "arguments of a call": (
        sequential(dense() | {"inbound_nodes": [{"args": [GADGET], "kwargs": {}}]}),
        "'eval'",
    ),
}

GROWN: dict[str, dict] = {
    "a layer of a billion": sequential(dense(500_000_000)),
    "an embedding of a billion": sequential(of("Embedding", input_dim=10**6, output_dim=10**3)),
    "many layers of a million": sequential(*(dense(1000, name=f"d{number}") for number in range(40))),
    "an input of a million": sequential(dense(1000), inputs=10**6),
    "a recurrent layer within a wrapper": sequential(
        of("Reshape", target_shape=[3, 1]), of("Bidirectional", layer=of("LSTM", units=30_000))
    ),
}
"""Models of gigabytes in some hundred bytes."""
