"""Check files before a commit: text ends in one newline and has no trailing blanks, TOML parses, nothing is large.

python tests/check_files.py FILE...
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

LARGEST = 1 << 20  # bytes: a model, a data set or a database does not belong into the repository


def faults(path: Path) -> list[str]:
    """Return what is wrong with a file, in a sentence each."""
    content = path.read_bytes()
    found = []
    if len(content) > LARGEST:
        found.append(f"is {len(content) >> 10} KiB large (expected: at most {LARGEST >> 10})")
    if b"\0" in content:  # a picture, say
        return found
    if content and (not content.endswith(b"\n") or content.endswith(b"\n\n")):
        found.append("does not end in exactly one newline")
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.endswith((b" ", b"\t", b"\r")):
            found.append(f"line {number} ends in blanks")
    if path.suffix == ".toml":
        try:
            tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            found.append(f"is not TOML: {error}")
    return found


def main() -> None:
    found = [f"{path} {fault}" for path in map(Path, sys.argv[1:]) if path.is_file() for fault in faults(path)]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
