"""Devices by name, as `--device` takes them."""

from __future__ import annotations

import ctypes
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.core.errors import SettingsError
from harness.core.recorded import whole_number

if TYPE_CHECKING:
    from torch import device

# The names of MLflow's own system metrics: its UI shows what begins so beside the model's metrics.
GPU_MEMORY, GPU_USE = "system/gpu_memory_usage_megabytes", "system/gpu_utilization_percentage"
USE_SECONDS = 1.0
CUDA_DRIVERS = ("libcuda.so.1", "libcuda.dylib", "nvcuda.dll")


def devices_of(text: str) -> tuple[str, ...]:
    """Return the devices that `--device` names; jobs get them in turn.

    Raises SettingsError if the machine does not have a device, and if one is named twice.
    """
    devices = tuple(_device_name(name.strip()) for name in text.split(","))
    if len({"cuda:0" if name == "cuda" else name for name in devices}) < len(devices):
        raise SettingsError(
            f"device is {text!r}, which names one device twice",
            expected="different devices, as cuda:0,cuda:1; --jobs says how many trials run at once",
        )
    return devices


def choose_device(wanted: str) -> device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names on this machine.

    On a GPU this process has cuDNN take only kernels that add in a fixed order: what is trained again, or goes on,
    must come to the same numbers.

    Raises SettingsError for any other text and for a GPU that does not exist.
    """
    import torch

    found = torch.device(_device_name(wanted))
    if found.type == "cuda":
        torch.backends.cudnn.deterministic = True
    return found


def _device_name(wanted: str) -> str:
    """Return what PyTorch calls a device. PyTorch, which takes two seconds, is asked only where there is a GPU."""
    if wanted == "cpu" or (wanted == "auto" and not _has_cuda_driver()):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    expected = "auto, cpu, cuda or cuda:N"
    kind, colon, index = wanted.partition(":")
    number = whole_number(index) if colon else 0
    if kind not in ("cpu", "cuda") or number is None or (colon and kind != "cuda"):
        raise SettingsError(f"there is no device {wanted!r}", expected=expected)
    if kind == "cuda" and number >= torch.cuda.device_count():
        raise SettingsError(
            f"device {wanted!r} was requested, and PyTorch sees {torch.cuda.device_count()} CUDA device(s)",
            expected=expected,
            hint="the same command with --device auto",
        )
    return f"{kind}:{number}" if colon else kind


def _has_cuda_driver() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # all of them are hidden
        return False
    for name in CUDA_DRIVERS:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def gpu_name(device: device) -> str | None:
    """Return the name of a GPU, None for a CPU. The GPU determines the kernels and so the last digits."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.get_device_name(device)


def gpu_figures(device: device) -> dict[str, float]:
    """Return what a GPU is used for now, by the names of metrics: nothing of a CPU.

    The memory is what PyTorch has reserved for this process. The use is that of the whole GPU, by all processes.
    It is left out where the driver does not tell it, as in a MIG slice.
    """
    if device.type != "cuda":
        return {}
    import torch

    figures = {GPU_MEMORY: torch.cuda.memory_reserved(device) / 2**20}
    use = _gpu_use(device, int(time.monotonic() / USE_SECONDS))
    return figures if use is None else {**figures, GPU_USE: use}


@lru_cache(maxsize=16)
def _gpu_use(device: device, _moment: int) -> float | None:
    """Return the use of a GPU in per cent, asked for once a moment: the driver itself looks no more often."""
    import torch

    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # noqa: BLE001 - each driver has its own way to say no, and no training may end by it
        return None
