"""The console of the commands: no text of a store or a file steers the terminal."""

import io
from pathlib import Path

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

import harness.cli
from harness.cli.display import file_display
from harness.cli.terminal import Console, print_text
from harness.core.streams import terminal_text

HOSTILE = "a\x1b[2J\x07\x9b1m\r\u202eb\u2028\ud800\x7f\x00"
SHOWN = "a?[2J??1m??b????"


def console() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file), file


def test_control_characters_are_replaced_and_nothing_else() -> None:
    assert terminal_text(HOSTILE) == SHOWN
    plain = "Ünïcode 音楽 🎵\ta [bold]b[/bold] :cat: 0.5\n"
    assert terminal_text(plain) == plain


def test_texts_and_tables() -> None:
    opened, file = console()
    opened.print(f"one {HOSTILE}", soft_wrap=True)
    table = Table("two")
    table.add_row(HOSTILE)
    opened.print(table)
    for line in (f"one {SHOWN}", SHOWN):
        # rich itself drops some of them (bell, carriage return)
        assert line.replace("?", "") in file.getvalue().replace("?", "")
    assert not [c for c in file.getvalue() if ord(c) < 32 and c != "\n"]


def test_markup_of_a_name_is_text() -> None:
    opened, file = console()
    table = Table("name")
    table.add_row("[/b] [link=http://x]y[/link] :cat:")
    opened.print(table)
    opened.print("[/b] [red]z")
    assert "[/b] [link=http://x]y[/link] :cat:" in file.getvalue()
    assert "[/b] [red]z" in file.getvalue()


def test_what_rich_writes_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    opened, file = console()
    opened.print(f"error: {HOSTILE}", style="red", soft_wrap=True)
    assert file.getvalue().startswith("\x1b[31merror: a?[2J")
    assert file.getvalue().count("\x1b") == 2  # the colour and its end
    with Progress(TextColumn("{task.description}"), console=opened, transient=True) as progress:
        progress.add_task("[bold]c\x1b[9mc", total=1)
        progress.refresh()
    assert "\x1b[?25h" in file.getvalue()  # the cursor is shown again
    assert "\x1b[9m" not in file.getvalue()


def test_the_names_of_files() -> None:
    opened, file = console()
    with file_display(opened, "predict") as show:
        show(f"{HOSTILE}.wav", 1, 2, None)
        show("b.wav", 2, 2, f"no sound: {HOSTILE}")
    assert "\x1b" not in file.getvalue()
    assert "\x9b" not in file.getvalue()


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(f"study {HOSTILE}\nnext")
    assert capsys.readouterr().out == f"study {SHOWN}\nnext\n"


def test_all_commands_print_on_this_console() -> None:
    allowed = {"terminal.py", "display.py"}  # the display is given its console
    for path in Path(harness.cli.__file__).parent.glob("*.py"):
        assert path.name in allowed or "rich.console" not in path.read_text(), path
