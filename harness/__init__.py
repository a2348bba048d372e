"""harness: experiment-tracked sweeps and honest comparisons of classifiers.

From Python, what the commands do (docs/python.md):

    import harness

    study = harness.sweep(model="fcnn", trials=40, data="birds")
    study.trials()                                    # a pandas DataFrame
    study.predict(frame)
    print(harness.compare(["birds-fcnn", "birds-cnn"]).verdict)

All names are imported when they are first used: `import harness` takes no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.space import Hyperparameter
from harness.core.version import __version__

if TYPE_CHECKING:
    from harness.compare.result import Comparison
    from harness.compare.traits.result import Traits
    from harness.data.memory import Dataset
    from harness.export.handle import LoadedStudy
    from harness.export.opening import Bundle
    from harness.export.result import ExportResult

__all__ = [
    "Dataset",
    "Hyperparameter",
    "__version__",
    "compare",
    "export",
    "load",
    "load_bundle",
    "sweep",
    "traits",
]


def sweep(
    model: str | type, *, data: str | Path | Dataset = "input", progress: bool = True, **settings: Any
) -> LoadedStudy:
    """Tune a network, as `harness sweep` does, and return the study; call it again to continue.

    `model` is `fcnn`, `cnn`, `both`, `FILE.py:Class`, or a class: its source is written to a file first. `data` is
    a folder, `demo`, or a `Dataset`, which is written to a folder first. `settings` are the options of the command
    with underscores: `trials=40`, `folds=5`, `study="wide"`, `set={"optimizer": "adamw"}`,
    `search={"dropout": {"low": 0.0, "high": 0.6}}`. `progress` shows a bar.

    Raises SettingsError, DataError, StudyError and TrackingError as the command does, and Stopped on Ctrl-C: the
    same call goes on.
    """
    from harness.sweep.calling import sweep_from_python

    plan = sweep_from_python(model, data, settings, progress=progress)
    stores = plan.stores
    return load(
        plan.spec.name,
        tracking_uri=stores.tracking_uri,
        storage=stores.storage,
        trust_code=not isinstance(model, str),
    )


def load(
    study: str, *, tracking_uri: str | None = None, storage: str | None = None, trust_code: bool = False
) -> LoadedStudy:
    """Return a recorded study: its trials, its best, its network.

    `trust_code` agrees to run the file of a model that is not of this package. The stores are those under
    `mlruns/` unless they are named.

    Raises StudyError if there is no study of that name.
    """
    from harness.export.handle import load_study

    return load_study(study, tracking_uri=tracking_uri, storage=storage, trust_code=trust_code)


def compare(studies: Sequence[str | LoadedStudy], **settings: Any) -> Comparison:
    """Compare two or more studies, as `harness compare` does: `verdict`, `pairs`, `rows`, `as_json()`.

    `settings` are the options of the command with underscores, such as `repeats=10` or `nested=True`.

    Raises what the command ends with.
    """
    from harness.compare.choose import plan_comparison
    from harness.compare.plan import CompareSettings
    from harness.compare.run import run_comparison
    from harness.sweep.calling import settings_of

    given = settings_of(CompareSettings, {"studies": [*map(_name, studies)], **_stores(studies), **settings})
    return run_comparison(plan_comparison(given))


def traits(study: str | LoadedStudy, **settings: Any) -> Traits:
    """Say which families of columns, or regions of pictures, decide: as `harness traits` does.

    `settings` are the options of the command with underscores, such as `repeats=10` or `learners=("forest",)`.

    Raises what the command ends with. It begins at once, however long it takes.
    """
    from harness.compare.traits.plan import TraitsSettings, plan_traits
    from harness.compare.traits.run import run_traits
    from harness.sweep.calling import settings_of

    return run_traits(
        plan_traits(settings_of(TraitsSettings, {"study": _name(study), **_stores([study]), **settings}))
    )


def export(study: str | LoadedStudy, out: str | Path, **settings: Any) -> ExportResult:
    """Export a study's network to a folder, as `harness export` does; `load_bundle` opens it.

    `settings` are those of `harness.export.bundle.export_best`, such as `formats=("safetensors", "onnx")`.

    Raises what the command ends with.
    """
    from harness.export.bundle import export_best

    own: dict[str, Any] = {}
    if not isinstance(study, str):
        own = {"tracking_uri": study.stores.tracking_uri, "identity": study.identity}
    return export_best(Path(out), study=_name(study), **{**own, **settings})


def load_bundle(folder: str | Path, *, trust_code: bool = False) -> Bundle:
    """Open an exported network: `classes`, `columns`, `predict(frame or pictures)`.

    Raises CheckpointError if the folder is not one that `export` wrote, UntrustedCode if it runs code that you
    have not agreed to run.
    """
    from harness.export.opening import open_bundle

    return open_bundle(Path(folder), trust_code=trust_code)


def _name(study: str | LoadedStudy) -> str:
    return study if isinstance(study, str) else study.name


def _stores(studies: Sequence[str | LoadedStudy]) -> dict[str, str]:
    """Return the stores of the studies that are objects, as settings; none for names alone.

    Raises SettingsError if they lie in different stores.
    """
    from harness.core.errors import SettingsError

    found = {study.stores for study in studies if not isinstance(study, str)}
    if len(found) > 1:
        raise SettingsError(
            "the studies lie in different stores", expected="studies of the same tracking_uri and storage"
        )
    return {key: getattr(stores, key) for stores in found for key in ("tracking_uri", "storage")}


FUNCTIONS = {"sweep": sweep, "compare": compare, "export": export}  # packages of these names are callable


def __getattr__(name: str) -> Any:
    if name == "Dataset":
        from harness.data.memory import Dataset

        return Dataset
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
