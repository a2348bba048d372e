"""Studies without training: a specification, and claims that end with made-up numbers."""

from dataclasses import replace
from pathlib import Path

import sqlalchemy
from optuna.storages import RDBStorage

from harness.core.names import WorkerId, new_name
from harness.core.records import EpochMetrics, StudySpec, TrialResult
from harness.core.space import Choice, Range
from harness.core.study_record import Budget, DatasetInfo, StudyContext
from harness.study import Claim, Study

SPEC = StudySpec(
    name="test-fcnn",
    experiment="test",
    model="fcnn",
    data_digest="d",
    split_name="s",
    split_digest="sd",
    columns=("a", "b"),
    epochs=30,
    seed=0,
    space={"lr": Range(1e-5, 1e-1, log=True), "batch_size": Choice((16, 32, 64, 128))},
    fixed={},
    sampler="tpe",
    pruner="none",
    precision="fp32",
)


CONTEXT = StudyContext(
    experiment=SPEC.experiment,
    identity="i",
    dataset=DatasetInfo(name="test", folder="x", tracks=3, genres=2, digest="d"),
    synthetic=True,
    columns=SPEC.columns,
)


def score(claim: Claim) -> float:
    """A stand-in for training: smooth in the parameters, so that samplers have something to learn."""
    lr, batch_size = float(claim.params["lr"]), float(claim.params["batch_size"])
    return 1 / (1 + abs(lr - 0.003) * 100 + abs(batch_size - 32) / 100)


def complete(claim: Claim, value: float | None = None) -> None:
    accuracy = score(claim) if value is None else value
    claim.finish(TrialResult(state="complete", best=EpochMetrics(3, 1.0, 0.5, accuracy, 0.1)))


def take(study: Study, total: int = 100, allowed_failures: int = 10) -> Claim:
    claim = study.claim(Budget(total, allowed_failures))
    assert claim is not None
    return claim


def metrics(epoch: int, accuracy: float) -> EpochMetrics:
    return EpochMetrics(epoch, 1.0, 1.0, accuracy, 0.1)


def machine(storage: RDBStorage, folder: Path) -> Study:
    return Study.create(
        storage,
        replace(SPEC, pruner="median"),
        CONTEXT,
        folder,
        WorkerId(new_name(), new_name()),
        {"lr": 0.001, "batch_size": 32},
    )


def let_time_pass(storage: RDBStorage) -> None:
    """Let every lease run out, as a minute without renewal would."""
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE harness_leases SET expires = now() - interval '1 second'"))
