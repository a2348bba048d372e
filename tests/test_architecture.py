"""The rules that hold the house together, read off the syntax tree."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harness"
# Imports run one way: a room may import the rooms before it, never one after it.
ROOMS = [
    "harness",
    "errors",
    "records",
    "search",
    "files",
    "environment",
    "pool",
    "journal",
    "data",
    "audio",
    "models",
    "settings",
    "training",
    "checkpoint",
    "plan",
    "tracking",
    "study",
    "journals",
    "trial",
    "process",
    "worker",
    "recorder",
    "crew",
    "statistics",
    "report",
    "reconcile",
    "sweep",
    "doctor",
    "reproduce",
    "resampling",
    "formats",
    "model_card",
    "export",
    "compare",
    "predict",
    "display",
    "cli",
]
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "harness" if first == "__init__" else first


def imported(path: Path) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.append((node.module or "", [alias.name for alias in node.names]))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_one_way(path: Path) -> None:
    own = room_of(path)
    for module, names in imported(path):
        if module.split(".")[0] != "harness":
            continue
        # `from harness import __version__` takes a name of the top room, not a room.
        rooms = [module.split(".")[1]] if "." in module else ["harness"]
        assert not any((PACKAGE / f"{name}.py").exists() for name in names if module == "harness"), module
        for room in rooms:
            assert ROOMS.index(room) <= ROOMS.index(own), f"{own} imports {room}"


@pytest.mark.parametrize(("library", "room"), [("mlflow", "tracking"), ("optuna", "study"), ("librosa", "audio")])
def test_one_room_knows_each_library(library: str, room: str) -> None:
    users = {room_of(path) for path in SOURCES for module, _ in imported(path) if module.split(".")[0] == library}
    assert users == {room}


def test_only_export_and_comparison_open_the_test_part() -> None:
    callers = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", getattr(node, "attr", None))
            if isinstance(node, ast.Name | ast.Attribute) and name in ("open_test", "open_test_pictures"):
                callers.add(room_of(path))
    assert callers - {"data"} == {"compare", "export"}


def test_every_room_is_listed() -> None:
    assert {room_of(path) for path in SOURCES} == set(ROOMS)
    assert set(ROOMS) - {"harness"} <= {path.stem for path in PACKAGE.iterdir()}


def test_nothing_from_outside_is_unpickled() -> None:
    for path in SOURCES:
        for module, _ in imported(path):
            assert module.split(".")[0] not in ("pickle", "joblib", "dill", "cloudpickle"), path
        assert "torch.load(" not in path.read_text(), path
