"""Tags and runs: written tags are read as typed properties, and no other module spells a tag's name."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.core.errors import StudyError, TrackingError
from harness.tracking import Kind, RunInfo, RunStatus, Tracker
from harness.tracking.runs import BATCH, Point
from harness.tracking.tags import STATUS_OF, StudyState, Tag

PACKAGE = Path(__file__).parents[2] / "harness"


@pytest.fixture
def tracker(workspace: Path) -> Tracker:
    return Tracker(f"sqlite:///{workspace}/mlruns/mlflow.db")


def made(tracker: Tracker, **tags: str) -> RunInfo:
    """Make a run with these tags (by their names in `Tag`), and read it."""
    named: dict[str, str] = {Tag[name]: text for name, text in tags.items()}
    run_id = tracker.runs.create(tracker.experiment_id("e"), "a run", named)
    return tracker.runs.get(run_id)


def test_tags_are_read_back_typed(tracker: Tracker) -> None:
    run = made(
        tracker, KIND="trial", TRIAL="12", STUDY="s", PARENT_ID="p", CHECKPOINT="removed", TEST_OPENINGS="3"
    )
    assert (run.kind, run.trial_number, run.study, run.parent_id) == (Kind.TRIAL, 12, "s", "p")
    assert (run.checkpoint_removed, run.test_openings, run.name) == (True, 3, "a run")
    assert run.status is RunStatus.RUNNING
    tracker.runs.end(run.run_id, RunStatus.KILLED, tags={Tag.MENDED: "why"}, time=2_000_000_000_000)
    ended = tracker.runs.get(run.run_id)
    assert (ended.status, ended.tags[Tag.MENDED]) == (RunStatus.KILLED, "why")


def test_openings_of_the_test_part_at_once_are_all_counted(tracker: Tracker) -> None:
    run = made(tracker, KIND="trial", TEST_OPENINGS="3")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tracker.runs.count_test_opening(run.run_id), range(8)))
    assert tracker.runs.get(run.run_id).test_openings >= 8
    assert tracker.runs.count_test_opening(run.run_id) >= 9
    alone = made(tracker, KIND="trial")
    assert [tracker.runs.count_test_opening(alone.run_id) for _ in range(2)] == [1, 2]
    assert tracker.runs.get(alone.run_id).tags[Tag.TEST_OPENINGS] == "2"


def test_a_run_of_another_program_is_of_unknown_kind(tracker: Tracker) -> None:
    run = made(tracker)
    assert (run.kind, run.study, run.trial_state, run.checkpoint_removed) == (Kind.UNKNOWN, None, None, False)
    assert made(tracker, KIND="pipeline").kind is Kind.UNKNOWN
    with pytest.raises(TrackingError, match="has no tag 'trial'"):
        _ = run.trial_number
    with pytest.raises(TrackingError, match="is no trial's"):
        tracker.studies.require_trial(run.run_id)


def test_runs_are_found_by_tags_kind_and_status(tracker: Tracker) -> None:
    trial = made(tracker, KIND="trial", STUDY="s", PARENT_ID="p", DATA_DIGEST="d")
    study = made(tracker, KIND="study", STUDY="s", DATA_DIGEST="d")
    made(tracker, KIND="study", STUDY="other", DATA_DIGEST="other")
    assert [run.run_id for run in tracker.runs.find({Tag.PARENT_ID: "p"})] == [trial.run_id]
    assert {run.run_id for run in tracker.runs.with_data("d")} == {trial.run_id, study.run_id}
    tracker.runs.end(study.run_id, RunStatus.FINISHED)
    assert [run.run_id for run in tracker.runs.running(Kind.TRIAL)] == [trial.run_id]
    assert [run.study for run in tracker.runs.running(Kind.STUDY)] == ["other"]
    assert tracker.studies.names() == ["other", "s"]
    with pytest.raises(StudyError, match="has no run of study 'missing'"):
        tracker.studies.require_run("missing", "identity")


def test_points_beyond_one_request_are_all_written_once(tracker: Tracker) -> None:
    run = made(tracker)
    points = [Point("loss", step / 7, 1_700_000_000_000 + step, step) for step in range(2 * BATCH + 5)]
    for _ in range(2):
        tracker.runs.log(run.run_id, points=points, params={"lr": 0.5}, tags={Tag.REASON: "x" * 6000})
    assert tracker.runs.steps(run.run_id, "loss") == frozenset(range(len(points)))
    read = tracker.runs.get(run.run_id)
    assert (read.params["lr"], len(read.tags[Tag.REASON])) == ("0.5", 5000)


def test_every_state_has_a_status() -> None:
    assert STATUS_OF["diverged"] is RunStatus.FAILED
    assert {state: state.status for state in StudyState} == {
        StudyState.RUNNING: RunStatus.RUNNING,
        StudyState.COMPLETE: RunStatus.FINISHED,
        StudyState.TIMED_OUT: RunStatus.FINISHED,
        StudyState.INTERRUPTED: RunStatus.KILLED,
        StudyState.FAILED: RunStatus.FAILED,
    }


def test_no_other_module_spells_a_tag_of_mlflow_or_reads_tags() -> None:
    names = {tag.value for tag in Tag if tag.value.startswith("mlflow.")}
    assert names
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant):
                assert node.value not in names or path.name == "tags.py", path
            if isinstance(node, ast.Attribute) and node.attr == "tags":
                assert path.parent.name == "tracking", path
