"""A pseudo-terminal: what a command shows to somebody who sits at it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.commands import command

COLUMNS = 80
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-9]|4[0-9]|9[0-7])(?:;[0-9]+)*m")
ERASE_LINE, HIDE_CURSOR, SHOW_CURSOR = "\x1b[2K", "\x1b[?25l", "\x1b[?25h"


@dataclass
class Terminal:
    """The side of a pseudo-terminal that a program writes to (`file`), and all that it has written (`shown`)."""

    file: int
    shown: str = ""
    _parts: list[bytes] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Whatever stood on a line at some time, without colours and movements of the cursor."""
        return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", self.shown)) if line.strip()]

    def left(self) -> str:
        """What still stands there at the end: what came after the bars were erased."""
        return CONTROL.sub("", self.shown.rpartition(ERASE_LINE)[2]).replace("\r\n", "\n")


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Open a pseudo-terminal of 24 lines and 80 columns; what was shown can be read once it is closed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    opened = Terminal(slave)

    def read() -> None:
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # the other side is closed
                return
            if not part:
                return
            opened._parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield opened
    finally:
        os.close(slave)
        reader.join()
        os.close(master)
        opened.shown = b"".join(opened._parts).decode()


def in_terminal(arguments: Sequence[str], environment: dict[str, str]) -> Terminal:
    """Run a `harness` command whose three streams are a pseudo-terminal, and return what it showed."""
    own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    own |= {"TERM": "xterm-256color", **environment}
    with terminal() as opened:
        process = subprocess.Popen(
            command(*arguments), stdin=opened.file, stdout=opened.file, stderr=opened.file, env=own
        )
        found = process.wait(timeout=300)
    assert found == 0, opened.shown
    return opened
