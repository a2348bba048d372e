"""What the commands print on: a console that lets no text of a store or a file steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

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


def print_text(text: str) -> None:
    """Print a text to stdout as it is, without wrapping, except that it is safe (see `terminal_text`)."""
    print(terminal_text(text))


class Console(rich.console.Console):
    """The console of all commands: texts are plain, without markup, and safe (see `terminal_text`)."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, file=file, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render anything as segments, whose texts are safe; rich's own control codes stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=terminal_text(segment.text))
