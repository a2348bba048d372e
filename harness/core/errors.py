"""The errors of the harness, one class each kind.

A `HarnessError` is for the user. The command line prints it and exits with `exit_code`. Any other exception that
reaches the command line is a bug and keeps its traceback.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial

# Bad input may be of any length, and a message repeats it. The limits are in characters.
MAX_QUOTED, MAX_WORD, MAX_LINE = 200, 1000, 4000  # what stands in quotes; any other word, as a path; a line
_WORD = re.compile(r"\S+")
# A quote in the middle of a word is an apostrophe.
_LONG_QUOTED = re.compile(rf"(?<![^\s(\[{{=:,])(?:'[^'\n]{{{MAX_QUOTED + 1},}}'|\"[^\"\n]{{{MAX_QUOTED + 1},}}\")")
_LONG_WORD = re.compile(rf"\S{{{MAX_WORD + 1},}}")
_LONG_LINE = re.compile(rf"[^\n]{{{MAX_LINE + 1},}}")
# The name of a setting whose value is a secret, or the end of one: api_key, sslpassword, X-Amz-Signature. The
# lengths are bounded: a search through text without such a setting takes time in proportion to its length.
_SECRET_NAME = (
    r"(?:(?:passw(?:or)?d|passphrase|pwd|token|secret|credential|signature|(?:api|access|private|auth)[_-]?key)"
    r"[^\s=&?'\":]{0,40}|[?&;](?:key|sig|auth|pw|pass))"
)
_SECRET_SETTING = re.compile(rf"({_SECRET_NAME}=)[^&]*", re.IGNORECASE)
_QUOTED_SECRET = re.compile(
    rf"({_SECRET_NAME}['\"]?\s{{0,2}}[=:]\s{{0,2}})(?:'[^'\n]{{0,500}}'|\"[^\"\n]{{0,500}}\")", re.IGNORECASE
)
_BEARER = re.compile(r"(\bbearer\s{1,2})\S+", re.IGNORECASE)


# In an address of these a user name alone is no secret. Any other word before `://` may be a user name itself.
_PLAIN_SCHEMES = frozenset(
    [
        "postgresql",
        "postgres",
        "mysql",
        "mariadb",
        "oracle",
        "mssql",
        "sqlite",
        "file",
        "s3",
        "s3a",
        "gs",
        "abfs",
        "abfss",
        "wasb",
        "wasbs",
        "hdfs",
        "dbfs",
    ]
)


def mask_password(url: str) -> str:
    """Return a URL with the passwords in its address and its query replaced by `***`.

    Masked is also a user name without a password, because it may be a token, but not in the address of a database;
    the password of a URL whose scheme was forgotten; and all before the last `@` of two: a password may have an
    `@`, and a library that cuts the URL there shows the rest as a host.
    """
    url = _SECRET_SETTING.sub(r"\1***", url)  # first: its value may have an `@`, as a login has
    scheme, separator, rest = url.partition("://")
    if separator and ":" not in scheme:  # else the `://` is within a password
        is_plain = re.split(r"[='\"(\[{<`]", scheme)[-1].lower().partition("+")[0] in _PLAIN_SCHEMES
        url = f"{scheme}://{_without_password(rest, is_plain=is_plain)}"
    elif "/" not in url.partition(":")[0]:  # else a path
        url = _without_password(url, is_plain=True)
    return url


def _without_password(address: str, *, is_plain: bool) -> str:
    """Mask the password before the last `@` of `user:password@host/...`; a user name may have an `@` too.

    `is_plain`: a user name alone is no secret, and the address may be a path.
    """
    login, at, host = address.rpartition("@")
    if not at or (address.startswith("/") and is_plain):  # no login, or the path of an SQLite file
        return address
    user, colon, password = login.partition(":")
    if colon and password:
        return f"{user}:***@{host}"
    return f"***@{host}" if not is_plain or "@" in login else address


def mask_login(text: str, url: str) -> str:
    """Return a text in which no part of the URL's login stands before an `@`.

    A library may cut the URL at another `@` than the last, and say that there is no host `SECRET@host`.
    """
    login, _, _ = url.partition("://")[2].rpartition("@")
    for part in login.split("@")[1:]:
        text = text.replace(f"{part}@", "***@") if part else text
    return text


def mask_passwords(text: str) -> str:
    """Return a text with the passwords of all URLs and settings in it replaced by `***`."""
    text = _BEARER.sub(r"\1***", _QUOTED_SECRET.sub(r"\1***", text))
    return _WORD.sub(lambda found: mask_password(found[0]) if {"@", "="} & set(found[0]) else found[0], text)


def shorten(text: str) -> str:
    """Return a text in which long quotations, words and lines are cut in the middle."""
    for pattern, longest in ((_LONG_QUOTED, MAX_QUOTED), (_LONG_WORD, MAX_WORD), (_LONG_LINE, MAX_LINE)):
        text = pattern.sub(partial(_cut, longest), text)
    return text


def _cut(longest: int, found: re.Match[str]) -> str:
    return f"{found[0][: longest - 43]}...{found[0][-40:]}"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names as a list for a message: the first ones, and how many others there are."""
    every = list(names)
    others = f" and {len(every) - most} others" if len(every) > most else ""
    return ", ".join(every[:most]) + others


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return a hint with the name that was meant, None if no known name is near."""
    written, every = name.replace("-", "_"), list(known)
    begun = [each for each in every if written and each.startswith(f"{written}_")]
    near = [written] if written in every else get_close_matches(written, every, n=1) or begun[:1]
    return f"{near[0]}, if that was meant" if near else None


class HarnessError(Exception):
    """An error that the user can fix.

    `found` says what is wrong, `expected` what would be right, `hint` what to try next. Passwords in URLs are
    masked here, because the message of a library may contain one. What a message repeats of bad input is cut here.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str | None = None, hint: str | None = None) -> None:
        self.found = shorten(mask_passwords(found))
        self.expected = None if expected is None else shorten(expected)
        self.hint = None if hint is None else shorten(mask_passwords(hint))
        super().__init__(self.found)

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


class NoStudiesYet(StudyError):  # noqa: N818 - no fault, where a first study is to be made
    """There is no storage of studies."""


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
