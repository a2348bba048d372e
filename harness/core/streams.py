"""Writing to a terminal: no text may steer it, and a reader that goes away must not stop the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

# Control characters but tab and newline, line and paragraph separators, marks that turn the direction of writing,
# and halves of surrogate pairs, which cannot be printed at all.
_UNSAFE = (
    *range(0x00, 0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
)
_SHOWN = dict.fromkeys(_UNSAFE, "?")


def terminal_text(text: str) -> str:
    """Return a text that is safe to print: each character that a terminal may take for a command is a `?`.

    A name of a study, a genre or a track may contain anything, an escape sequence too.
    """
    return text.translate(_SHOWN)


class Messages:
    """`sys.stderr` as a display writes to it: once it can no longer be written, the rest is dropped.

    `lost` is the error that was met then, None while all is well.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        self._unless_lost(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless it is lost."""
        self._unless_lost(self._stream.flush)

    def _unless_lost(self, action: Callable[[], object]) -> None:
        if self.lost is not None:
            return
        try:
            action()
        except OSError as error:
            self.lost = error
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Print a text to stderr, safely (see `terminal_text`), or drop it if nobody reads there any more."""
    if sys.stderr is not None:
        stream = Messages(sys.stderr)
        stream.write(f"{terminal_text(text)}\n")
        stream.flush()


def discard(stream: IO[str]) -> None:
    """Have all that is written to a stream go nowhere from now on.

    What could not be written stays in the stream's buffer, and the flush at the process's end would fail again and
    change the exit code.
    """
    with suppress(OSError, ValueError):  # it has no file descriptor, or is closed
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
