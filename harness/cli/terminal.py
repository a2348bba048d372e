"""What the commands print on: a console that lets no text of a store or a file steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from harness.core.streams import terminal_text


def print_text(text: str) -> None:
    """Print a text to stdout as it is, without wrapping, except that it is safe (see `terminal_text`)."""
    print(terminal_text(text))


class Console(rich.console.Console):
    """The console of all commands: texts are plain, without markup, and safe (see `terminal_text`)."""

    def __init__(
        self,
        *,
        stderr: bool = False,
        soft_wrap: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(
            stderr=stderr,
            soft_wrap=soft_wrap,
            file=file,
            width=width,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render anything as segments, whose texts are safe; rich's own control codes stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=terminal_text(segment.text))
