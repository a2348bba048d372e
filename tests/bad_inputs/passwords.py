"""URLs with a password in every form, which no message may show."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import Case, Outcome, json_that

KIND = "passwords in URLs"
SECRET = "S3CRETword"
NOWHERE = "127.0.0.1:1"  # no server listens there


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name, url in _databases().items():
        yield _case(f"{name} (status)", ["status", "--storage", url])
        yield _case(f"{name} (doctor)", ["doctor", "--storage", url, "--json"])
        yield _case(f"{name} (variable)", ["status"], {"HARNESS_STORAGE": url})
    for name, url in _servers().items():
        yield _case(f"{name} (export)", ["export", "--study", "x", "--out", "best", "--tracking-uri", url])
        yield _case(f"{name} (doctor)", ["doctor", "--tracking-uri", url, "--json"])
        yield _case(f"{name} (ui)", ["ui"], {"MLFLOW_TRACKING_URI": url})


def _case(name: str, arguments: list[str], environment: dict[str, str] | None = None) -> Case:
    return Case(
        KIND, name, lambda here: arguments, _right, may_refuse=True, never=_shown, environment=environment or {}
    )


def _shown(outcome: Outcome) -> str | None:
    return "the password is shown" if SECRET in outcome.stdout + outcome.stderr else None


def _right(outcome: Outcome) -> str | None:
    """Return what is wrong, or None: the doctor's report and the address of a server's UI are right results."""
    if outcome.arguments[0] == "doctor":
        return json_that(lambda found: None, statuses=(0, 1))(outcome)
    return None if outcome.status == 0 and outcome.arguments[0] == "ui" else f"exit status {outcome.status}"


def _databases() -> dict[str, str]:
    there = f"{NOWHERE}/optuna"
    return {
        "user and password": f"postgresql+psycopg://me:{SECRET}@{there}",
        "without a driver": f"postgresql://me:{SECRET}@{there}",
        "a password without a user": f"postgresql://:{SECRET}@{there}",
        "a user with an at sign": f"postgresql://me@firm.com:{SECRET}@{there}",
        "a password with an at sign": f"postgresql://me:a@{SECRET}@{there}",
        "a password with two at signs": f"postgresql://me:a@b@{SECRET}@{there}",
        "a password with a colon": f"postgresql://me:a:{SECRET}@{there}",
        "a password with a slash": f"postgresql://me:a/{SECRET}@{there}",
        "a password with a hash": f"postgresql://me:a#{SECRET}@{there}",
        "a password with a question mark": f"postgresql://me:a?{SECRET}@{there}",
        "a password with a space": f"postgresql://me:a {SECRET}@{there}",
        "a password in the query": f"postgresql://{there}?user=me&password={SECRET}",
        "a password of another name in the query": f"postgresql://{there}?sslpassword={SECRET}",
        "no scheme": f"me:{SECRET}@{there}",
        "no slashes": f"postgresql:me:{SECRET}@{there}",
        "one slash": f"postgresql:/me:{SECRET}@{there}",
        "an unknown driver": f"oracle+none://me:{SECRET}@{there}",
        "upper case": f"POSTGRESQL://me:{SECRET}@{there}",
        "a port that is a word": f"postgresql://me:{SECRET}@127.0.0.1:port/optuna",
    }


def _servers() -> dict[str, str]:
    return {
        "a server's user and password": f"http://me:{SECRET}@{NOWHERE}",
        "a server's user with an at sign": f"http://me@firm.com:{SECRET}@{NOWHERE}",
        "a token as a user": f"http://{SECRET}@{NOWHERE}",
        "a token as a user with a colon": f"http://{SECRET}:@{NOWHERE}",
        "a token in the query": f"http://{NOWHERE}?token={SECRET}",
        "a key with a dash in the query": f"https://{NOWHERE}?API-Key={SECRET}",
        "a token in the fragment": f"https://{NOWHERE}#access_token={SECRET}",
        "a key in the query": f"https://{NOWHERE}?api_key={SECRET}",
        "a server without a scheme": f"me:{SECRET}@{NOWHERE}",
    }
