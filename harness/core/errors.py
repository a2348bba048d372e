"""What can go wrong, each kind under its own name.

A `HarnessError` is for the person at the terminal: what was found, what is expected, what to run next. The
command line prints it and exits with `exit_code`; anything else that escapes is a bug and keeps its traceback.
"""

import re

_ADDRESS = re.compile(r"[\w+.-]+://\S+")


def mask_password(url: str) -> str:
    """Return a URL fit to be shown: what it has of passwords, in its address or its query, as three stars."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&][^=&]*password[^=&]*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def mask_passwords(text: str) -> str:
    """Return a text with the passwords of every URL in it as three stars."""
    return _ADDRESS.sub(lambda found: mask_password(found[0]), text)


class HarnessError(Exception):
    """A mistake that the user can mend.

    `found` says what was found, `expected` what would have been right, `hint` what to try next. Passwords in
    URLs are masked here, so that no message of a library can bring one to the screen.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str | None = None, hint: str | None = None) -> None:
        super().__init__(mask_passwords(found))
        self.found = mask_passwords(found)
        self.expected = expected
        self.hint = None if hint is None else mask_passwords(hint)

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected is not None:
            lines.append(f"expected: {self.expected}")
        if self.hint is not None:
            lines.append(f"try: {self.hint}")
        return "\n".join(lines)


class DataError(HarnessError):
    """The data folder, a file in it, or a split over it is not what it should be."""


class SettingsError(HarnessError):
    """An environment variable or a settings file asks for something that does not exist."""


class StudyError(HarnessError):
    """A study is missing, is not the one that was meant, or cannot go on."""


class TrackingError(HarnessError):
    """The MLflow store cannot be reached, written or understood."""


class CheckpointError(HarnessError):
    """A checkpoint or an exported bundle is missing, damaged or of another kind."""


class Stopped(HarnessError):  # noqa: N818 - in good order, and no fault
    """A signal ended the command in good order; the exit code names it, as a shell does."""

    def __init__(self, found: str, *, signal: int, hint: str) -> None:
        super().__init__(found, hint=hint)
        self.exit_code = 128 + signal


class Diverged(Exception):  # noqa: N818 - an outcome of training, not a fault of the program
    """A loss stopped being finite; the message says which one, and in which epoch."""


class Interrupted(Exception):  # noqa: N818 - likewise
    """Training was asked to stop between two batches."""
