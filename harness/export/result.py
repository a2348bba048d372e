"""What an export says: the folder, the run, the figures of the network and of its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.json_types import JsonObject
from harness.core.objective import number_text
from harness.core.records import SYNTHETIC
from harness.tracking import Ledger, Registered
from harness.training.description import FormatCheck, TestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """The result of an export: the folder, the run that trained the network, and its accuracies."""

    folder: Path
    run_id: str
    study: str
    model: str
    split_name: str
    synthetic: bool
    val_accuracy: float | None
    members: int
    items: str
    test: TestResult
    ledger: Ledger
    formats: tuple[FormatCheck, ...]
    registered: Registered | None

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        return {**asdict(self), "folder": str(self.folder), "ledger": self.ledger.as_json()}

    def as_text(self) -> str:
        """Return what the command prints."""
        ensemble = [f"the mean of the probabilities of {self.members} networks"] if self.members > 1 else []
        lines = [
            f"exported {self.model} (study {self.study}, run {self.run_id}) to {self.folder}",
            *ensemble,
            *self._figures(),
            *(f"{check.file}: read back, {check.figures()}" for check in self.formats),
        ]
        if self.registered is not None:
            again = ", as before" if self.registered.reused else ""
            lines.append(f"registered as {self.registered.uri} (version {self.registered.version}{again})")
        if self.synthetic:
            lines.append(SYNTHETIC)
        lines.append(self.ledger.as_text())
        return "\n".join(lines)

    def _figures(self) -> list[str]:
        test = self.test
        if test.accuracy is None:  # a loss of its own
            shown = ", ".join(f"{name} {number_text(value)}" for name, value in test.figures.items())
            return [f"{shown} ({test.tracks} {self.items}), split: {self.split_name}"]
        return [
            "trained on train and validation part together"
            if self.val_accuracy is None
            else f"validation accuracy {self.val_accuracy:.3f} (the setting was chosen on it, which flatters it)",
            f"test accuracy {test.accuracy:.3f} ({test.correct} of {test.tracks} {self.items}), "
            f"95 % interval {test.low:.3f} to {test.high:.3f}, split: {self.split_name}",
        ]
