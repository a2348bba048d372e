"""The code of a model from a file is recorded as it is, byte for byte."""

from pathlib import Path

import pytest

from harness.core.errors import SettingsError
from harness.models.external import digest_of_code
from harness.sweep import driver
from harness.sweep.plan import plan_sweep
from tests.support import EXPERIMENTS
from tests.support.sweeps import FAST, changed

pytestmark = pytest.mark.usefixtures("place")
EXAMPLE = (EXPERIMENTS / "residual_mlp.py").read_bytes()


def recorded(code: bytes) -> str:
    Path("net.py").write_bytes(code)
    source = driver._context(plan_sweep(changed(FAST, model="net.py:ResidualMLP"))).model_source
    assert source is not None
    return source


@pytest.mark.parametrize("addition", ["# Ⅳ\n", "# a line that ends as on Windows\r\n"])
def test_the_recorded_code_has_the_digest_of_the_file(addition: str) -> None:
    code = EXAMPLE + addition.encode()
    assert digest_of_code(recorded(code).encode()) == digest_of_code(code)


def test_code_in_another_encoding_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"net\.py is not UTF-8"):
        recorded(b"# coding: latin-1\n# \xe9\n" + EXAMPLE)
