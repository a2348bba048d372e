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


def test_one_device_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for wrong in ("gpu", "cpu:0", "cuda:x", "", "cuda:²", "cuda:" + "9" * 5000):
        with pytest.raises(SettingsError, match="auto, cpu, cuda or cuda:N"):
            choose_device(wrong)
    with pytest.raises(SettingsError, match="CUDA device"):
        choose_device("cuda:99")
