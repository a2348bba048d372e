"""The tests, in folders that mirror the packages; `pytest` puts the repository's root on the path."""

import pytest

# The support package's assertions explain themselves as the tests' own do.
pytest.register_assert_rewrite("tests.support")
