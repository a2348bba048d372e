"""Leases: a database table beside Optuna's that says which machine runs which trial.

A live worker renews its lease; the lease of a dead worker expires. Each change is one conditional statement, so of
two processes that want the same lease one learns that it failed. Only the database's clock counts: clocks of
different machines are never compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy import text

RENEW_SECONDS = 10.0
LEASE_SECONDS = 60.0

_UNTIL = f"now() + interval '{LEASE_SECONDS} seconds'"
_TABLE = """
CREATE TABLE IF NOT EXISTS harness_leases (
    trial_id BIGINT PRIMARY KEY,
    study TEXT NOT NULL,
    place TEXT NOT NULL,
    worker TEXT NOT NULL,
    expires TIMESTAMPTZ NOT NULL
)
"""


@contextmanager
def advisory_lock(engine: sqlalchemy.Engine, name: str) -> Iterator[None]:
    """Take the PostgreSQL advisory lock of that name; the server releases it when the connection is lost.

    The lock belongs to a transaction, so that it also works behind a pooler that shares connections.
    Source: PostgreSQL documentation, 13.3.5 Advisory Locks.
    """
    key = int.from_bytes(hashlib.sha256(f"harness {name}".encode()).digest()[:8], signed=True)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def make_lease_table(engine: sqlalchemy.Engine) -> None:
    """Make the table of leases unless it exists."""
    with engine.begin() as connection:
        connection.execute(text(_TABLE))


class Leases:
    """The leases of one study, used by a process of one machine (`place`, the id of its work folder)."""

    def __init__(self, engine: sqlalchemy.Engine, study: str, place: str) -> None:
        self._engine = engine
        self._study = study
        self._machine_id = place

    def take(self, trial_id: int, worker: str) -> bool:
        """Take the lease of a trial; return True if another machine had it last.

        The caller has the study's lock.
        """
        before = self.holders([trial_id]).get(trial_id)
        self._change(
            f"INSERT INTO harness_leases VALUES (:trial, :study, :place, :worker, {_UNTIL}) "
            "ON CONFLICT (trial_id) DO UPDATE "
            "SET place = excluded.place, worker = excluded.worker, expires = excluded.expires",
            trial_id,
            worker,
        )
        return before is not None and before[0] != self._machine_id

    def renew(self, trial_id: int, worker: str) -> bool:
        """Renew a worker's lease; return False if it has expired or belongs to another worker."""
        return self._change(
            f"UPDATE harness_leases SET expires = {_UNTIL} "
            "WHERE trial_id = :trial AND place = :place AND worker = :worker AND expires > now()",
            trial_id,
            worker,
        )

    def secure(self, trial_id: int) -> bool:
        """Extend the lease to a full period from now; return False if another machine has taken it."""
        return self._change(
            f"UPDATE harness_leases SET expires = greatest(expires, {_UNTIL}) "
            "WHERE trial_id = :trial AND place = :place",
            trial_id,
        )

    def expire(self, trial_id: int) -> None:
        """Let a lease of this machine expire now, so that any machine can take the trial."""
        self._change(
            "UPDATE harness_leases SET expires = now() WHERE trial_id = :trial AND place = :place", trial_id
        )

    def reclaim(self, trial_id: int) -> bool:
        """Remove the owner of an expired lease; return False if it has not expired."""
        return self._change(
            "UPDATE harness_leases SET place = '' WHERE trial_id = :trial AND expires <= now()", trial_id
        )

    def holders(self, trial_ids: list[int]) -> dict[int, tuple[str, bool]]:
        """Return the machine id of each trial's lease and whether it has expired; a trial may have none."""
        query = text("SELECT trial_id, place, expires <= now() FROM harness_leases WHERE trial_id = ANY(:trials)")
        with self._engine.begin() as connection:
            return {row[0]: (row[1], row[2]) for row in connection.execute(query, {"trials": trial_ids})}

    def delete(self) -> None:
        """Delete all leases of the study."""
        with self._engine.begin() as connection:
            connection.execute(text("DELETE FROM harness_leases WHERE study = :study"), {"study": self._study})

    def _change(self, statement: str, trial_id: int, worker: str = "") -> bool:
        values = {"trial": trial_id, "study": self._study, "place": self._machine_id, "worker": worker}
        with self._engine.begin() as connection:
            return bool(connection.execute(text(statement), values).rowcount)
