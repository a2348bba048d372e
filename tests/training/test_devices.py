"""Devices by name: legal and illegal ones."""

import pytest
import torch

from harness.core.errors import SettingsError
from harness.training.devices import choose_device, devices_of


def test_a_list_of_devices() -> None:
    assert devices_of("cpu") == ("cpu",)
    with pytest.raises(SettingsError, match="one device twice"):
        devices_of("cpu, cpu")
    with pytest.raises(SettingsError, match="'tpu'"):
        devices_of("cpu,tpu")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(SettingsError, match=f"'{missing}' was requested"):
        devices_of(f"cpu,{missing}")


def test_the_names_that_pytorch_has_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of GPUs is made up: what a name is taken for does not depend on there being one."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices_of("cuda:00, cuda:1") == ("cuda:0", "cuda:1")
    assert devices_of("cuda") == ("cuda",)
    for twice in ("cuda,cuda:0", "cuda:0,cuda:00"):
        with pytest.raises(SettingsError, match="one device twice"):
            devices_of(twice)
    with pytest.raises(SettingsError, match="there is no device 'cuda:'"):
        devices_of("cuda:")


def test_one_device_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for wrong in ("gpu", "cpu:0", "cpu:", "cuda:", "cuda:x", "", "cuda:²", "cuda:" + "9" * 5000):
        with pytest.raises(SettingsError, match="auto, cpu, cuda or cuda:N"):
            choose_device(wrong)
    with pytest.raises(SettingsError, match="CUDA device"):
        choose_device("cuda:99")
