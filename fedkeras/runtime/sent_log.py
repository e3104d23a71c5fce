"""A client's own record of all it has sent: a line of CSV a message, for whoever owns the machine.

It is appended to from run to run, and kept short: above LONGEST_BYTES the file becomes the older of two. A line is
written before its message is sent. What cannot be written is said once, and stops nothing.
"""

import logging
import time
from pathlib import Path

from flwr.app import ArrayRecord, Message

from fedkeras import csv_text
from fedkeras.errors import UserError
from fedkeras.runtime import wire

log = logging.getLogger("fedkeras")

COLUMNS = ("time", "server", "client", "answer_to", "bytes", "content")
LONGEST_BYTES = 16 << 20
LONGEST_VALUE = 60
LONGEST_CONTENT = 2000
"""Characters of a value, and of a line's content, that are noted."""


class SentLog:
    """The file at `path`; None: nothing is noted. Raises UserError if it cannot be written at the start."""

    def __init__(self, path: Path | None, server: str) -> None:
        self._path, self._server, self._failed = path, server, False
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._begin()
            except OSError as error:
                raise UserError(
                    f"what is sent cannot be noted in {path}: {error.strerror or error}; --sent-log names another "
                    "file, --sent-log none does without"
                ) from error

    @property
    def path(self) -> Path | None:
        """The file; None where there is none, or where it is no longer written."""
        return None if self._failed else self._path

    def note(self, question: Message, reply: Message, outgoing: wire.Outgoing) -> None:
        """Write the line of this reply to `question`, which is sent now."""
        header, buffers = outgoing
        count = header.ByteSize() + sum(map(len, buffers))
        self._line(header.cid, question.metadata.message_type, count, _content(reply))

    def note_words(self, client: str, what: str, words: str) -> None:
        """Write the line of something else that is sent: what this client says of itself when it joins or leaves."""
        self._line(client, what, len(words.encode()), words)

    def _line(self, client: int | str, what: str, count: int, content: str) -> None:
        if self._path is None or self._failed:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        line = csv_text.text_of([[now, self._server, client, what, count, _plain(content)]])
        try:
            if self._path.stat().st_size > LONGEST_BYTES:
                self._path.replace(self._path.with_name(f"{self._path.stem}-older{self._path.suffix}"))
                self._begin()
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(line)
        except OSError as error:
            self._failed = True
            log.warning("what is sent is no longer noted in %s: %s", self._path, error.strerror or error)

    def _begin(self) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(",".join(COLUMNS) + "\n")


def _content(reply: Message) -> str:
    """The records of a reply in words: of arrays their number and size, of other records names and values."""
    if reply.has_error():
        return f"error: {reply.error.reason}"
    parts = []
    for name, entry in reply.content.items():
        if isinstance(entry, ArrayRecord):
            size = sum(len(array.data) for array in entry.values())
            parts.append(f"{name}: {len(entry)} arrays of {size} bytes")
        else:
            parts.append(f"{name}: " + " ".join(f"{key}={_short(value)}" for key, value in entry.items()))
    return "; ".join(parts) or "nothing"


def _short(value: bool | float | str | bytes | list) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"


def _plain(text: str) -> str:
    """One line."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= LONGEST_CONTENT else f"{shown[:LONGEST_CONTENT]}... ({len(text)} characters)"
