"""Damaged files, and runs and files of somebody else: the commands name them or pass over them, and go on."""

import json
from pathlib import Path

import pytest

from harness.tracking.tags import Tag
from tests.support.commands import SWEEP, Harness, last_json
from tests.support.stores import Stores, artifacts, work_folder

STUDY = "demo-fcnn"
AGAIN = (*SWEEP, "--model", "fcnn", "--epochs", "2", "--jobs", "1", "--trials")


@pytest.fixture
def swept(place: Path, inside: Harness) -> Path:
    """A study of two trials in the stores under the current folder."""
    inside(*AGAIN, "2")
    return place


@pytest.mark.long
def test_damaged_files_of_a_study(swept: Path, inside: Harness) -> None:
    stores = Stores.here()
    (parent,), trials = stores.runs(STUDY, "study"), stores.runs(STUDY, "trial")
    trial = trials[0].info.run_id
    for name in ("context.json", "split.json"):
        path = artifacts(parent) / name
        whole = path.read_bytes()
        for content in (whole[:100], b"", b"{}", b"[1]", b"\xff\xfe\x00", b"[" * 100_000):
            path.write_bytes(content)
            for command in (("export", "--run", trial, "--out", "best"), ("reproduce", trial)):
                error = inside(*command, code=1).stderr
                assert f"{name} of run {parent.info.run_id} is damaged" in error
                assert "expected: " in error
        path.write_bytes(whole)
    assert inside("reproduce", trial).stdout.startswith("trial 0 of study demo-fcnn")


def test_a_damaged_configuration(swept: Path, inside: Harness) -> None:
    first = Stores.here().runs(STUDY, "trial")[0]
    run, config = first.info.run_id, json.loads(first.data.tags[Tag.CONFIG])
    for stack, precision in ((5000, "fp32"), (1, "bf16")):  # what `harness sweep` refuses to train
        changed = json.dumps({**config, "stack": stack, "precision": precision})
        Stores.here().client().set_tag(run, Tag.CONFIG.value, changed)
        assert f"stack is {stack}" in inside("reproduce", run, code=1).stderr
    for content in ("{", "[]", '{"model": 5}', "x" * 4000):
        Stores.here().client().set_tag(run, Tag.CONFIG.value, content)
        assert "has the tag 'config' with" in inside("reproduce", run, code=1).stderr
    Stores.here().client().set_tag(run, Tag.TRIAL.value, "x")
    assert "the tag 'config'" in inside("reproduce", run, code=1).stderr


@pytest.mark.long
def test_runs_of_somebody_else(swept: Path, inside: Harness) -> None:
    stores, client = Stores.here(), Stores.here().client()
    (parent,) = stores.runs(STUDY, "study")
    experiment, digest = parent.info.experiment_id, parent.data.tags[Tag.DATA_DIGEST]
    under = {Tag.PARENT_ID: parent.info.run_id, Tag.STUDY: STUDY, Tag.KIND: "trial"}
    odd = [
        {**under, Tag.TRIAL: "x", Tag.TRIAL_STATE: "complete"},
        {**under, Tag.TRIAL: "9" * 5000},
        under,
        {Tag.STUDY: STUDY, Tag.KIND: "trial", Tag.TRIAL: "x"},
        {Tag.STUDY: STUDY, Tag.KIND: "study"},
        {Tag.DATA_DIGEST: digest, Tag.TEST_OPENINGS: "many"},
        {Tag.KIND: "repeat", Tag.COMPARISON: "none"},
        {Tag.KIND: "nothing of ours"},
    ]
    for tags in odd:
        client.create_run(experiment, tags={str(name): value for name, value in tags.items()})
    complete = client.create_run(experiment, tags={**{str(k): v for k, v in under.items()}, "trial": "7"})
    client.set_tag(complete.info.run_id, Tag.TRIAL_STATE.value, "complete")  # and without its metrics
    client.set_terminated(complete.info.run_id)
    report = inside("doctor").stdout
    assert report.count("is not as harness makes the run of a trial, and is ignored") == 3
    assert "found" not in report
    summary = last_json(inside(*AGAIN, "3", "--json"))
    assert summary["trials"] == {"complete": 3, "pruned": 0, "failed": 0}
    assert summary["parent_run_id"] == parent.info.run_id
    exported = last_json(inside("export", "--run", summary["best"]["run_id"], "--out", "best", "--json"))
    assert exported["ledger"]["own_split"] == 1
    again = inside("export", "--study", STUDY, "--out", "again", code=1).stderr
    assert "MLflow has 2 studies of the name 'demo-fcnn'" in again


def test_files_of_somebody_else(swept: Path, inside: Harness) -> None:
    names = ["trial-x.jsonl", "trial-.jsonl", ".jsonl", "trial-000001.jsonl", "trial-²²²²².jsonl", "notes.jsonl"]
    for name in names:
        (work_folder(STUDY) / name).touch()
    (work_folder(STUDY) / "trial-00007.jsonl").mkdir()
    report = inside("doctor").stdout
    assert report.count("is not a journal of harness, and is ignored") == len(names) + 1
    assert "3 of 3 trials finished" in inside(*AGAIN, "3").stdout
    assert inside("doctor", "--fix").stdout.count("is ignored") == len(names) + 1
    for name in names:
        assert (work_folder(STUDY) / name).exists()
