"""`harness sweep --stack`: the same study as without, several trials of a process as one network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import SettingsError
from harness.core.events import Ended, EpochDone, TrialStarted
from harness.core.journal import Journal, read_events
from harness.core.records import EpochMetrics, TrialConfig, TrialResult
from harness.study import Study, open_storage
from harness.sweep.driver import open_study
from harness.sweep.placing import worker_tasks
from harness.sweep.plan import plan_sweep
from harness.sweep.recovery import handle_worker_death
from harness.tracking import Tracker, TrialLog
from harness.training.devices import GPU_MEMORY, GPU_USE, gpu_figures
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores
from tests.support.sweeps import changed, sweep
from tests.support.trainings import CPU

SEARCH = {"lr": {"low": 1e-3, "high": 1e-2, "log": True}, "batch_size": [16, 32]}


def rows_of(name: str) -> list[tuple[dict[str, object], str, float]]:
    study = Study.open(open_storage(f"sqlite:///{Path.cwd()}/mlruns/optuna.db"), name, Path.cwd())
    return [(dict(row.params), row.state, row.val_accuracy or 0.0) for row in study.rows()]


def test_a_stack_finds_what_single_trials_find(place: Path) -> None:
    stacked = sweep(study="stacked", trials=5, jobs=4, stack=3, search=SEARCH, sampler="random")
    alone = sweep(study="alone", trials=5, jobs=2, search=SEARCH, sampler="random")
    assert stacked.counts == alone.counts
    for (params, state, accuracy), other in zip(rows_of("stacked"), rows_of("alone"), strict=True):
        assert (params, state) == other[:2]
        assert accuracy == pytest.approx(other[2], abs=0.05)  # to rounding, and one of 48 tracks
    stores = Stores.here()
    stores.check("stacked", 5, 4)
    configs = {json.loads(run.data.tags["config"])["stack"] for run in stores.runs("stacked", "trial")}
    assert configs == {3}


def test_a_stacked_trial_is_reproduced_to_the_last_digit(place: Path, inside: Harness) -> None:
    sweep(study="stacked", trials=3, stack=2, search=SEARCH)
    for run in Stores.here().runs("stacked", "trial"):
        assert last_json(inside("reproduce", run.info.run_id, "--json"))["agrees"] is True


def test_what_no_stack_trains(place: Path) -> None:
    wrongs: list[dict[str, Any]] = [{"model": "cnn"}, {"model": "both"}, {"precision": "bf16"}, {"ray": "auto"}]
    for wrong in wrongs:
        with pytest.raises(SettingsError, match="stack is 2, and"):
            plan_sweep(changed(stack=2, **wrong))


@pytest.mark.parametrize(
    ("jobs", "stack", "expected"),
    [(None, 4, [4]), (10, 4, [4, 4, 2]), (3, 4, [3]), (5, 1, [1] * 5), (None, 30, [20])],
)
def test_how_many_trials_each_process_trains(
    place: Path, jobs: int | None, stack: int, expected: list[int]
) -> None:
    plan = plan_sweep(changed(trials=20, jobs=jobs, stack=stack))
    tasks = [task("worker") for task in worker_tasks(plan, open_study(plan))]
    assert [task.at_once for task in tasks] == expected
    assert {task.stack for task in tasks} == {stack}


def test_the_death_of_a_worker_requeues_all_that_it_trained(place: Path) -> None:
    plan = plan_sweep(changed(trials=4, stack=3))
    study = open_study(plan)
    with study.registered():
        task = worker_tasks(plan, study)[0]("doomed")
        mine = Study.open(open_storage(task.stores.storage), plan.spec.name, task.work_folder, task.worker_id)
        claims = [mine.claim(plan.budget) for _ in range(3)]
        assert [claim.number for claim in claims if claim is not None] == [0, 1, 2]
        assert study.trials_of_worker("doomed") == [0, 1, 2]
        for claim in claims:
            assert claim is not None
            claim.leave()
        assert handle_worker_death(study, "doomed", "killed by SIGKILL", attempts=3)
        assert study.counts().waiting == 3


def test_what_an_epoch_says_of_the_gpu_is_charted_as_a_system_metric(place: Path, tmp_path: Path) -> None:
    assert gpu_figures(CPU) == {}
    plan = plan_sweep(changed(trials=1))
    study, tracker = open_study(plan), Tracker(plan.stores.tracking_uri)
    parent = tracker.studies.begin(plan.spec, "", plan.split, study.context, 1)
    log = TrialLog(tracker, plan.spec, parent, study.context.dataset)
    config = TrialConfig(model="fcnn", params={"lr": 0.1, "batch_size": 8}, epochs=2, seed=0, threads=1)
    path = tmp_path / "trial.jsonl"
    journal = Journal(path)
    journal.append(
        TrialStarted(trial=0, sweep="s", config=config, resumed=False, device="cuda", gpu="one", total=1)
    )
    for epoch, (memory, use) in enumerate(((512.0, 30.0), (640.0, 80.0)), 1):
        gpu = {GPU_MEMORY: memory, GPU_USE: use}
        journal.append(EpochDone(metrics=EpochMetrics(epoch, 0.5, 0.5, 0.5, 0.1, gpu=gpu)))
    journal.append(Ended(result=TrialResult(state="complete", best=None)), sync=True)
    journal.close()
    run_id, _ = log.run_of(0, 0, search=False)
    log.send(run_id, read_events(path)[0], checkpoint=tmp_path / "none")
    points = tracker.client.get_metric_history(run_id, GPU_MEMORY)
    assert [(point.step, point.value) for point in points] == [(1, 512.0), (2, 640.0)]
    assert [point.value for point in tracker.client.get_metric_history(run_id, GPU_USE)] == [30.0, 80.0]
