"""The loss that a network declares itself: what a class may say, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import SettingsError
from harness.core.objective import ACCURACY, Objective
from harness.models.external import check_network
from harness.models.registry import model_spec
from harness.models.spec import ModelSpec
from tests.support.own_loss import SOURCE


def spec(tmp_path: Path, change: tuple[str, str] = ("", ""), name: str = "Autoencoder") -> ModelSpec:
    assert change[0] in SOURCE
    path = tmp_path / "net.py"
    path.write_text(SOURCE.replace(*change))
    found = model_spec(f"{path}:{name}")
    check_network(found, 5, 3)
    return found


def test_the_objective_is_the_loss_or_a_metric_with_its_direction(tmp_path: Path) -> None:
    assert spec(tmp_path).objective == Objective("val_loss", minimise=True)
    assert spec(tmp_path, name="Closest").objective == Objective("val_closeness", minimise=False)
    assert model_spec("fcnn").objective == ACCURACY
    for objective in (ACCURACY, Objective("val_loss", True), Objective("val_closeness")):
        assert Objective.of_text(str(objective)) == objective
    assert Objective.of_text("nonsense") == Objective.of_text(None) == ACCURACY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"minimise"', '"down"'), "metrics is"),
        (('{"largest"', '{"Largest one"'), "metrics is"),
        (('"val_closeness"', '"val_accuracy"'), "objective is 'val_accuracy'"),
        (('"val_closeness"', '"closeness"'), "objective is 'closeness'"),
        (
            ('"largest": error.amax(1).mean(),', ""),
            "gives closeness, loss, and metrics declares closeness, largest",
        ),
        (('"loss": error.mean(),', ""), "loss gives dict"),
        (("error.amax(1).mean()", "error.amax(1)"), "'largest'"),
        (("error.amax(1).mean()", "0.0"), "gives 0.0 for 'largest'"),
        (('"loss": error.mean()', '"loss": batch.inputs.mean()'), "depends on none of its weights"),
        (("batch.inputs)))", "batch.nothing)))"), "AttributeError"),
    ],
)
def test_what_a_class_may_not_say(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        spec(tmp_path, change, "Closest")
    assert "loss" in str(raised.value.expected)


def test_a_loss_alone_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nclass Alone(torch.nn.Linear):\n    representation = 'features'\n"
        "    def __init__(self, inputs, classes): super().__init__(inputs, inputs)\n"
        "    def loss(self, batch): return (self(batch.inputs) - batch.inputs).square().mean()\n"
    )
    found = model_spec(f"{path}:Alone")
    check_network(found, 5, 3)
    assert str(found.objective) == "val_loss, minimise"
