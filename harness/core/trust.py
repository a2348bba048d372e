"""Which code the user has agreed to run: the SHA-256 of model files and pt2 files, in a private file of the user.

Code that a record or a bundle names runs with the rights of the user who opens it, and anybody who can write the
record can change it. So it runs only if the user has named exactly this code before (`harness sweep --model
FILE.py`, `harness export`) or says `--trust-code`.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from harness.core.errors import UntrustedCode

FOREIGN_WRITE = stat.S_IWGRP | stat.S_IWOTH


def trust_file() -> Path:
    """Return the path of the list: `harness/trusted-code` in XDG_STATE_HOME, by default `~/.local/state`.

    Raises RuntimeError if the user has no home folder.
    """
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "harness" / "trusted-code"


def remember(digest: str, path: Path) -> None:
    """Add the SHA-256 of code that the user has named to the list, if the list can be written."""
    if is_trusted(digest):
        return
    try:
        file = trust_file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except (OSError, RuntimeError):  # no home folder, or not writable: the user is asked for --trust-code later
        return
    try:
        line = f"{digest} {datetime.now(UTC).isoformat(timespec='seconds')} {str(path.absolute())!r}\n"
        os.write(handle, line.encode())  # one call: two processes at once write two whole lines
    finally:
        os.close(handle)


def is_trusted(digest: str) -> bool:
    """Return True if the list has the SHA-256. A list that others may write to counts as empty."""
    try:
        with trust_file().open(encoding="utf-8", errors="replace") as lines:
            about = os.fstat(lines.fileno())
            if about.st_uid != os.geteuid() or about.st_mode & FOREIGN_WRITE:
                return False
            return any(line.partition(" ")[0] == digest for line in lines)
    except (OSError, RuntimeError):
        return False


def require_trust(path: str, digest: str, what: str, trust_code: bool) -> None:
    """Raise UntrustedCode unless the user trusts the code at `path`, whose SHA-256 is `digest`, for `what`.

    `trust_code`: the user has said `--trust-code`, or this process was started by one that has checked.
    """
    if not (trust_code or is_trusted(digest)):
        raise UntrustedCode(
            f"{what} runs the code in {path} (SHA-256 {digest}), and you have not named this code before",
            expected="code that you know: it runs with your rights",
            hint=f"read {path}, then the same command with --trust-code",
        )
