"""The console for progress and messages, which go to stderr."""

from __future__ import annotations

import sys
from typing import IO, cast

from harness.cli.terminal import Console
from harness.core.streams import Messages


class MessageConsole(Console):
    """A console on stderr. When stderr can no longer be written it falls silent, and the command goes on."""

    def __init__(self, *, soft_wrap: bool = False) -> None:
        self._messages = None if sys.stderr is None else Messages(sys.stderr)
        super().__init__(file=cast("IO[str] | None", self._messages), stderr=True, soft_wrap=soft_wrap)

    @property
    def lost(self) -> OSError | None:
        """Why stderr can no longer be written, None while it can."""
        return None if self._messages is None else self._messages.lost
