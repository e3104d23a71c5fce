"""What a file is by its first bytes, whatever its name ends in: for messages about files that are something else."""

from pathlib import Path

from fedkeras.errors import UserError

HEAD = 4096
PARQUET = b"PAR1"

_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself: run `git lfs pull`"),
    (b"/annex/objects/", "a pointer of git-annex and not the file itself: run `git annex get`"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls): save it as .xlsx"),
    (b"\x1f\x8b", "compressed (gzip): unpack it"),
    (b"BZh", "compressed (bzip2): unpack it"),
    (b"\xfd7zXZ", "compressed (xz): unpack it"),
    (b"\x93NUMPY", "a single array of np.save (.npy): write it with np.savez, as .npz"),
    (b"\x89HDF", "an HDF5 file: write its arrays with np.savez, as .npz"),
    (PARQUET, "a Parquet file: name it .parquet"),
    (b"%PDF", "a PDF"),
    (b"\x80\x04", "a pickle: write its arrays with np.savez, as .npz"),
    (b"\x80\x05", "a pickle: write its arrays with np.savez, as .npz"),
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def what_it_is(head: bytes) -> str | None:
    """What a file that begins so is, if it is none of .npz, .csv and .xlsx; None where nothing speaks against them."""
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page and not a table: most likely the download failed, or wanted a login"
    if text.startswith(b"<?xml"):
        return "XML and not a table"
    return None


def check_kind(path: Path, wanted: str) -> bytes:
    """The file's first bytes. Raises UserError for another kind of file than `wanted`: zip, text or parquet."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if wanted == "parquet" and head.startswith(PARQUET):
        return head
    what = what_it_is(head)
    if what is None and wanted == "parquet":
        what = _other_zip(path, head) or "no Parquet file"
    if what is None and wanted == "zip":
        what = _other_zip(path, head)
    if what is None and wanted == "text":
        what = _no_text(head)
    if what:
        raise UserError(f"{path} ends in {path.suffix}, and is {what}")
    return head


def _other_zip(path: Path, head: bytes) -> str | None:
    if not head.startswith(b"PK"):
        return "text" if _is_text(head) else None
    if path.suffix.lower() == ".npz" and b"[Content_Types].xml" in head:
        return "an Excel workbook: name it .xlsx"
    return "an archive of numpy's: name it .npz" if path.suffix.lower() == ".xlsx" and b".npy" in head else None


def _no_text(head: bytes) -> str | None:
    if head.startswith(b"PK"):
        if b"xl/" in head or b"[Content_Types]" in head:
            return "an Excel workbook: name it .xlsx"
        return "a zip archive, and no text" + (": name it .npz" if b".npy" in head else "")
    if head.startswith(_UTF_16):
        return "text in UTF-16: save it as UTF-8 (in Excel, as 'CSV UTF-8')"
    if b"\0" in head:
        return "no text: it has NUL bytes (text in UTF-16 has them: save it as UTF-8)"
    return "JSON and not a table" if head.lstrip()[:1] in (b"{", b"[") else None


def _is_text(head: bytes) -> bool:
    try:
        head[:-4].decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
