"""Code planted in a record or a bundle: it says whether it ran."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

CODE = """
from pathlib import Path
from torch import nn

Path({ran!r}).touch()

class Small(nn.Sequential):
    representation = "features"

    def __init__(self, inputs, classes):
        super().__init__(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, classes))
"""


@dataclass(frozen=True)
class Planted:
    """A model file that leaves a mark when it runs."""

    path: Path
    mark: Path

    @classmethod
    def at(cls, path: Path) -> Planted:
        mark = path.with_suffix(".ran").absolute()
        path.write_text(CODE.format(ran=str(mark)))
        return cls(path, mark)

    @property
    def name(self) -> str:
        """The model's name in a record."""
        return f"{self.path}:Small"

    @property
    def code(self) -> str:
        return self.path.read_text()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def ran(self) -> bool:
        return self.mark.exists()
