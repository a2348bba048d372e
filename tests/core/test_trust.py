"""The list of trusted code: what is on it, and when it does not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UntrustedCode
from harness.core.trust import is_trusted, remember, require_trust, trust_file

CODE = "a" * 64


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_code_that_was_named_is_trusted_and_other_code_is_not(tmp_path: Path) -> None:
    assert not is_trusted(CODE)
    remember(CODE, tmp_path / "a\nb.py")
    remember(CODE, tmp_path / "again.py")
    assert is_trusted(CODE)
    assert not is_trusted("b" * 64)
    assert not is_trusted("")
    assert len(trust_file().read_text().splitlines()) == 1
    assert trust_file().stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_list_that_others_can_write_counts_as_empty(tmp_path: Path, mode: int) -> None:
    remember(CODE, tmp_path / "net.py")
    trust_file().chmod(mode)
    assert not is_trusted(CODE)


def test_without_a_place_for_the_list_nothing_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("a file")
    remember(CODE, tmp_path / "net.py")
    assert not is_trusted(CODE)
    require_trust("net.py", CODE, "it", trust_code=True)


def test_the_error_shows_path_and_digest_and_what_to_say() -> None:
    with pytest.raises(UntrustedCode) as error:
        require_trust("shared/net.py", CODE, "the bundle", trust_code=False)
    for words in ("shared/net.py", CODE, "--trust-code"):
        assert words in str(error.value)
