"""Errors as text: the masking of passwords, and the length of a message."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.core.errors import HarnessError, mask_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("https://me:sec@ret@mlflow:5000/path", "https://me:***@mlflow:5000/path"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////abs/a.db", "sqlite:////abs/a.db"),
        ("postgresql://me:sec/r#e?t@db/optuna", "postgresql://me:***@db/optuna"),
        ("http://me@firm.com:secret@127.0.0.1:1", "http://me@firm.com:***@127.0.0.1:1"),
        ("https://secret@mlflow:5000", "https://***@mlflow:5000"),
        ("https://secret:@mlflow:5000", "https://***@mlflow:5000"),
        ("postgresql://me@db/optuna", "postgresql://me@db/optuna"),
        ("harness:secret@db/optuna", "harness:***@db/optuna"),
        ("http://mlflow:5000?access_token=secret", "http://mlflow:5000?access_token=***"),
        ("sqlite:////home/me@firm/a:b@c.db", "sqlite:////home/me@firm/a:b@c.db"),
        ("/home/me/a:b@c/rows.csv", "/home/me/a:b@c/rows.csv"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert mask_password(url) == shown
    assert "sec" not in mask_password(url)
    error = HarnessError(f"cannot open '{url}', url={url}", hint=f"try ({url})")
    assert shown in error.found
    assert "sec" not in str(error)


@pytest.mark.parametrize(
    "word", ["a", "a.b+", "://", "?", "?pass=", "=&token", "x@", ":@", "'", '"', "' ", '" ', "('", "é"]
)
def test_an_error_about_a_long_word_is_made_in_time_and_short(word: str) -> None:
    """In time that is proportional to the length: each of these words would take hours in quadratic time."""
    long = word * (500_000 // len(word))
    error = HarnessError(f"rows.csv, line 3: {long!r}", expected=long, hint=long)
    assert error.found.startswith("rows.csv, line 3: ")
    assert len(str(error)) < 15_000


def test_what_a_message_quotes_is_cut_in_the_middle() -> None:
    cell = f"begin {'word ' * 50}end"
    found = HarnessError(f"a.csv, line 3, column tempo: {cell!r} is it, and don't forget 'short'").found
    assert len(found) < 280
    assert found.startswith("a.csv, line 3, column tempo: 'begin word")
    assert found.endswith("word end' is it, and don't forget 'short'")
    path = "/".join(["folder"] * 50)
    assert HarnessError(f"there is no {path}").found == f"there is no {path}"


SECRET = "S3CRETword"
# In a setting a secret may have any character but those that end it, in a login any at all.
IN_LOGIN = st.text("ab1@:/#?=+%!$;,", max_size=8)
IN_SETTING = st.text("ab1@:/#?=+%!$;,", max_size=8)


@example(before="", after="://", form="me:{}@host", text="{}")
@example(before="//", after="", form="me:{}@host", text="{}")
@given(
    before=IN_LOGIN,
    after=IN_LOGIN,
    form=st.sampled_from(
        ["postgresql://me:{}@db/optuna", "http://me:{}@mlflow:5000", "me:{}@host", "http://{}@host", "a@{}@host"]
    ),
    text=st.sampled_from(["{}", "cannot reach '{}'", "no host ({}), and no port", "url={}"]),
)
def test_no_secret_of_a_login_is_shown(before: str, after: str, form: str, text: str) -> None:
    if not form.startswith(("me:", "postgresql")):  # a `:` would end a user name, a `/` begin a path
        before, after = (part.replace(":", "").replace("/", "") for part in (before, after))
    url = form.format(f"{before}{SECRET}{after}")
    assert SECRET not in mask_password(url)
    assert SECRET not in str(HarnessError(text.format(url), hint=text.format(url)))


@given(
    before=IN_SETTING,
    after=IN_SETTING,
    name=st.sampled_from(
        ["password", "sslpassword", "token", "access_token", "api_key", "apikey", "API-Key", "client_secret"]
    ),
    text=st.sampled_from(
        [
            "{}={}",
            "https://host?{}={}",
            "https://host/path#{}={}&x=1",
            "x=1;{}={}",
            "'{}={}'",
            "({}={})",
            "{} = '{}'",
        ]
    ),
)
def test_no_secret_of_a_setting_is_shown(before: str, after: str, name: str, text: str) -> None:
    assert SECRET not in str(HarnessError(text.format(name, f"{before}{SECRET}{after}")))


@pytest.mark.parametrize(
    "text",
    [
        "dbname=optuna user=me password='S3CRETword and more'",
        '{"user": "me", "token": "S3CRETword"}',
        "{'api_key': 'S3CRETword'}",
        "Authorization: Bearer S3CRETword",
        "https://maps?key=S3CRETword",
    ],
)
def test_no_secret_in_another_form_is_shown(text: str) -> None:
    assert SECRET not in str(HarnessError(text, hint=text))


@pytest.mark.parametrize(
    "text",
    [
        "--seed=3 and x=1",
        "write to me@firm.com",
        "'sqlite:////home/me@work/x.db'",
        "(postgresql://me@host/db)",
        "s3://bucket/users/me@firm.com/run",
        "rows.csv: 'a@b' has 3 tokens",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert str(HarnessError(text)) == text
