"""Devices: what a word on the command line means on this machine."""

from __future__ import annotations

import torch

from harness.core.errors import SettingsError


def devices_of(text: str) -> tuple[str, ...]:
    """Return the devices that `--device` names, which jobs are dealt out to in turn.

    Raises SettingsError for a device that this machine does not have, and for one named twice.
    """
    devices = tuple(str(choose_device(name.strip())) for name in text.split(","))
    if len(set(devices)) < len(devices):
        raise SettingsError(
            f"device is {text!r}, which names one device twice",
            expected="different devices, as cuda:0,cuda:1; --jobs says how many trials run at once",
        )
    return devices


def choose_device(wanted: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` means on this machine.

    Raises SettingsError for another word and for a GPU that is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected = "auto, cpu, cuda or cuda:N"
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise SettingsError(f"there is no device {wanted!r}", expected=expected)
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device {wanted!r} was asked for, and PyTorch sees {torch.cuda.device_count()} CUDA device(s)",
            expected=expected,
            hint="the same command with --device auto",
        )
    return torch.device(wanted)


def gpu_name(device: torch.device) -> str | None:
    """Return what GPU a device is (its kernels, and so the last digits, depend on it), None for a processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
