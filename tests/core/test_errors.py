"""Errors as text, and the masking of passwords."""

import pytest

from harness.core.errors import mask_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("https://me:sec@ret@mlflow:5000/path", "https://me:***@mlflow:5000/path"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////abs/a.db", "sqlite:////abs/a.db"),
        ("postgresql://me:sec/r#e?t@db/optuna", "postgresql://me:***@db/optuna"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert mask_password(url) == shown
    assert "sec" not in mask_password(url)
