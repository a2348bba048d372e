"""What a sweep is going to do: settings, data and split brought together, checked before anything is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data import Tracks, demo_data_folder, load_tracks, read_split, stratified_split, used_columns
from harness.errors import DataError, SettingsError
from harness.models import ModelSpec, check_network, model_spec
from harness.records import Split, StudySpec
from harness.settings import SweepSettings, check_name, resolve_stores, work_folder_of
from harness.training import choose_device

MINIMUM_ALLOWED_FAILURES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sweep is going to do, with everything that can be checked beforehand already checked."""

    settings: SweepSettings
    spec: StudySpec
    tracks: Tracks
    split: Split
    model: ModelSpec
    tracking_uri: str
    storage: str
    work_folder: Path
    devices: tuple[str, ...]
    joins: bool = False  # a study that somebody else's sweep has made and asked for

    @property
    def allowed_failures(self) -> int:
        """How many trials may fail before the sweep gives up."""
        return max(MINIMUM_ALLOWED_FAILURES, self.settings.trials)


def load_data(name: str) -> Tracks:
    """Read the data folder of that name; `demo` is the synthetic set, made on first use."""
    return load_tracks(demo_data_folder() if name == "demo" else Path(name))


def recorded_folder(context: dict[str, Any]) -> str:
    """Return where a study's data are by its record; or demo where synthetic ones are gone."""
    folder: str = context["data"]
    return "demo" if context.get("synthetic") and not Path(folder).exists() else folder


def load_recorded_data(name: str, digest: str) -> Tracks:
    """Read a data folder that a record speaks of.

    Raises DataError where it holds other data than were recorded.
    """
    return check_recorded(load_data(name), digest)


def check_recorded(tracks: Tracks, digest: str) -> Tracks:
    """Return the tracks, which are those that were recorded.

    Raises DataError where they are not.
    """
    if tracks.digest != digest:
        raise DataError(
            f"{tracks.folder} holds other data than the study was made on "
            f"(digest {tracks.digest[:12]}, recorded {digest[:12]})",
            legal="the data folder as it was, the same on every machine",
            run="harness data check, or --data with the folder that was used",
        )
    return tracks


def default_experiment(tracks: Tracks) -> str:
    """Return the experiment that a data set's runs go into: the synthetic set has one of its own."""
    return "demo" if tracks.synthetic else "gtzan"


def plan_sweep(settings: SweepSettings) -> Plan:
    """Read the data, make the split and fix the study's spec; nothing is written but the cache of pictures.

    Raises DataError and SettingsError for whatever is wrong with them.
    """
    model = model_spec(settings.model)
    tracks = load_data(settings.data)
    _check_half(tracks, model)
    if settings.split is None:
        split = stratified_split(tracks, seed=settings.split_seed)
    else:
        split = read_split(Path(settings.split), tracks)
    experiment = check_name("experiment", settings.experiment or default_experiment(tracks))
    tracking_uri, storage, work_root = resolve_stores(settings.tracking_uri, settings.storage)
    spec = StudySpec(
        name=check_name("study", settings.study or f"{experiment}-{model.label}"),
        experiment=experiment,
        model=model.name,
        data_digest=tracks.digest,
        split_name=split.name,
        split_digest=split.digest,
        columns=used_columns(tracks, settings.without) if model.representation == "features" else (),
        epochs=settings.epochs,
        seed=settings.seed,
        search=settings.search or model.search,
        sampler=settings.sampler,
        pruner=settings.pruner or ("none" if settings.sampler == "gp" else "median"),
        precision=settings.precision,
        source_digest=model.source_digest,
    )
    if model.source_digest is not None:
        check_network(model, len(spec.columns), len(tracks.genres))
    return Plan(
        settings=settings,
        spec=spec,
        tracks=tracks,
        split=split,
        model=model,
        tracking_uri=tracking_uri,
        storage=storage,
        work_folder=work_folder_of(work_root, storage, spec.name),
        devices=devices_of(settings.device),
    )


def devices_of(text: str) -> tuple[str, ...]:
    """Return the devices that `--device` names, which jobs are dealt out to in turn.

    Raises SettingsError for a device that this machine does not have, and for one named twice.
    """
    devices = tuple(str(choose_device(name.strip())) for name in text.split(","))
    if len(set(devices)) < len(devices):
        raise SettingsError(
            f"device is {text!r}, which names one device twice",
            legal="different devices, as cuda:0,cuda:1; --jobs says how many trials run at once",
        )
    return devices


def _check_half(tracks: Tracks, model: ModelSpec) -> None:
    half = tracks.features if model.representation == "features" else tracks.pictures
    if half is None:
        legal = {
            "features": "features_30_sec.csv",
            "pictures": "images_original/<genre>/<genre>NNNNN.png",
        }
        raise DataError(
            f"{tracks.folder} has no {model.representation}, which {model.name} is trained on",
            legal=legal[model.representation],
            run="harness data import PATH, or sweep the other model",
        )
