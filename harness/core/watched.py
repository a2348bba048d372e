"""A file that must stay where it was opened: what is written to a database that was removed is lost."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.errors import HarnessError


class WatchedFile:
    """A file as it was when this object was made.

    A process that has a file open goes on writing to it when its name leads to another file or to none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found = path.stat()

    def is_in_place(self) -> bool:
        """Return True if the path still leads to the same file."""
        try:
            return os.path.samestat(self._found, self.path.stat())
        except OSError:
            return False

    def check(self, whose: str, error: type[HarnessError]) -> None:
        """Raise the error if the file is no longer in its place; `whose` database it is."""
        if not self.is_in_place():
            raise error(
                f"{whose} database {self.path} was removed or replaced while it was in use",
                expected="a database that stays where it is as long as a command uses it",
                hint="the database back in its place from a copy, if there is one; then the same command again",
            )
