"""The rules that hold the packages together, read off the syntax tree."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harness"
# Package -> the packages that it may import. `cli` may import all of them.
MAY_IMPORT = {
    "core": "",
    "study": "core",
    "tracking": "core",
    "workers": "core",
    "data": "core workers",
    "models": "core data",
    "training": "core workers data models",
    "sweep": "core study tracking workers data models training",
    "compare": "core study tracking workers data models training",
    "export": "core tracking data models training",
    "cli": "core study tracking workers data models training sweep compare export",
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "harness"


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each imported module with the imported name (empty for `import module`)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_every_package_is_listed() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(
        MAY_IMPORT
    )
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 13


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_one_way(package: str) -> None:
    allowed = {package, "harness", *MAY_IMPORT[package].split()}
    for path in sorted((PACKAGE / package).rglob("*.py")):
        for module, name in imports(path):
            if module.split(".")[0] == "harness":
                assert package_of(module) in allowed, f"{module_of(path)} imports {module}"
                assert module != "harness" or name == "__version__", (
                    f"{module_of(path)} imports {name} from harness"
                )


def test_modules_import_one_way() -> None:
    """Inside a package, too, there is an order in which each module imports only modules before it."""
    modules = {module_of(path) for path in SOURCES}
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        own = module_of(path)
        graph[own] = set()
        for module, name in imports(path):
            target = f"{module}.{name}" if f"{module}.{name}" in modules else module
            # A package's __init__ gathers its own modules; they never import it back.
            if target in modules and target != own:
                graph[own].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(("library", "home"), [("mlflow", "tracking"), ("optuna", "study"), ("librosa", "data")])
def test_one_package_knows_each_library(library: str, home: str) -> None:
    users = {
        package_of(module_of(path))
        for path in SOURCES
        for module, _ in imports(path)
        if module.split(".")[0] == library
    }
    assert users == {home}


def test_only_export_and_comparison_open_the_test_part() -> None:
    callers = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", getattr(node, "attr", None))
            if isinstance(node, ast.Name | ast.Attribute) and name in ("open_test", "open_test_pictures"):
                callers.add(package_of(module_of(path)))
    assert callers - {"data"} == {"compare", "export"}


def test_nothing_from_outside_is_unpickled() -> None:
    for path in SOURCES:
        for module, _ in imports(path):
            assert module.split(".")[0] not in ("pickle", "joblib", "dill", "cloudpickle"), path
        assert "torch.load(" not in path.read_text(), path
