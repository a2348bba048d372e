"""The errors of the harness, one class each kind.

A `HarnessError` is for the user. The command line prints it and exits with `exit_code`. Any other exception that
reaches the command line is a bug and keeps its traceback.
"""

import re

_ADDRESS = re.compile(r"[\w+.-]+://\S+")


def mask_password(url: str) -> str:
    """Return a URL with the passwords in its address and its query replaced by `***`."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&][^=&]*password[^=&]*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def mask_passwords(text: str) -> str:
    """Return a text with the passwords of all URLs in it replaced by `***`."""
    return _ADDRESS.sub(lambda found: mask_password(found[0]), text)


class HarnessError(Exception):
    """An error that the user can fix.

    `found` says what is wrong, `expected` what would be right, `hint` what to try next. Passwords in URLs are
    masked here, because the message of a library may contain one.
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
    """The data folder, a file in it, or a split of it is missing or wrong."""


class SettingsError(HarnessError):
    """A setting is unknown or illegal, wherever it comes from: flag, environment variable, file or class."""


class StudyError(HarnessError):
    """A study is missing, has other settings, or cannot continue."""


class TrackingError(HarnessError):
    """The MLflow store cannot be reached, written or read."""


class CheckpointError(HarnessError):
    """A checkpoint or an exported bundle is missing, damaged or of another format."""


class UntrustedCode(HarnessError):  # noqa: N818 - a question to the user
    """A record or a bundle names code that the user has not agreed to run."""


class Stopped(HarnessError):  # noqa: N818 - no fault of the program
    """A signal stopped the command in good order. The exit code is 128 + the signal's number, as in a shell."""

    def __init__(self, found: str, *, signal: int, hint: str) -> None:
        super().__init__(found, hint=hint)
        self.exit_code = 128 + signal


class Diverged(Exception):  # noqa: N818 - an outcome of training, not a fault of the program
    """A loss is not finite; the message says which loss in which epoch."""


class Interrupted(Exception):  # noqa: N818 - likewise
    """Training stopped because its caller requested it."""
