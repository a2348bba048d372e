"""What is recorded of the code: git is asked, and its repository is not written."""

import os
import subprocess
from pathlib import Path

from harness.tracking.environment import _git


def test_git_status_writes_nothing(tmp_path: Path) -> None:
    own = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x")):
        (tmp_path / "Ⅳ.py").write_text("one = 1\n", encoding="utf-8")
        subprocess.run(["git", *words], cwd=tmp_path, env=own, check=True)
    # Git notes in its index that a file with a new time has the old content, unless it is told not to.
    os.utime(tmp_path / "Ⅳ.py", (1, 1))
    index = (tmp_path / ".git" / "index").read_bytes()
    assert _git(tmp_path, "status", "--porcelain", "--", ".") == ""
    assert (tmp_path / ".git" / "index").read_bytes() == index
