"""The rules that hold the packages together, read off the syntax tree."""

import ast
import subprocess
import sys
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
    "compare": "core study tracking workers data models training sweep",
    "export": "core study tracking data models training",
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


@pytest.mark.parametrize(
    ("library", "home"), [("mlflow", "tracking"), ("optuna", "study"), ("librosa", "data"), ("ray", "workers")]
)
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


def text_files_without_encoding(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that open, read or write a text file, or a process's output, in the locale's encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        named = {keyword.arg for keyword in node.keywords}
        method = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [
            word.value
            for argument in (*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode"))
            for word in ast.walk(argument)
            if isinstance(word, ast.Constant) and isinstance(word.value, str) and set(word.value) <= set("rwaxbt+")
        ]
        opens = method in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile") and (
            any(mode and "b" not in mode for mode in modes) or not (node.args or named - {"encoding", "newline"})
        )
        if "encoding" not in named and (
            opens
            or method in ("read_text", "write_text")
            or (method in ("run", "Popen", "check_output") and "text" in named)
        ):
            yield node.lineno


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.open()", True),
        ("path.open('w', newline='')", True),
        ("open(path, 'r')", True),
        ("path.open('ab' if new else 'r')", True),
        ("path.read_text()", True),
        ("path.write_text('x')", True),
        ("subprocess.run(words, text=True)", True),
        ("path.open('rb')", False),
        ("path.open('ab' if new else 'rb')", False),
        ("path.open(encoding='utf-8', newline='')", False),
        ("path.read_text(encoding='utf-8')", False),
        ("Study.open(storage, name)", False),
        ("Image.open(path, formats=['PNG'])", False),
        ("os.open('.', os.O_RDONLY)", False),
    ],
)
def test_what_counts_as_text_without_an_encoding(code: str, found: bool) -> None:
    assert bool(list(text_files_without_encoding(ast.parse(code)))) == found


def test_every_text_file_names_its_encoding() -> None:
    """The default is the locale's, which is not the same on every machine."""
    for path in SOURCES:
        lines = list(text_files_without_encoding(ast.parse(path.read_text(encoding="utf-8"))))
        assert lines == [], f"{path}, lines {lines}"


def imported(statements: str, names: tuple[str, ...]) -> str:
    """Return which of these modules are in memory after the statements, as a text."""
    code = f"import sys\n{statements}\nprint([name for name in {names!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_an_actor_imports_neither_optuna_nor_mlflow() -> None:
    """What trains on another machine has no store to write to."""
    actor = "import harness.workers.remote, harness.training.trainer, harness.compare.training"
    assert imported(actor, ("optuna", "mlflow", "sqlalchemy")) == "[]"


def test_the_list_of_studies_is_read_without_optuna() -> None:
    """To import Optuna and SQLAlchemy takes longer than the rest of `harness status`."""
    status = "import harness.cli.status\nfrom harness.study import list_studies, reading_database"
    assert imported(status, ("optuna", "sqlalchemy", "numpy")) == "[]"


def test_a_sweep_imports_neither_pytorch_nor_mlflow_before_its_workers_begin() -> None:
    """They take seconds. Its workers import PyTorch while it reads the data."""
    sweep = "import harness.cli.run_plan, harness.sweep.plan, harness.sweep.driver, harness.sweep.whole"
    assert imported(sweep, ("torch", "sklearn", "scipy", "mlflow", "pandas", "matplotlib")) == "[]"
