"""Where a run happened: device, threads, versions. Recorded with every result."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from adapt.errors import AdaptError

__all__ = ["choose_device", "environment"]

PACKAGES = ("torch", "numpy", "safetensors", "hydra-core", "mlflow", "scikit-learn", "matplotlib", "pillow")


def choose_device(name: str) -> torch.device:
    """The device that ``name`` means; ``auto`` takes CUDA where there is one.

    Raises:
        AdaptError: an unknown device, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise AdaptError(f"device={name} is not known: use cpu, cuda, cuda:0 … or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise AdaptError(f"device={name} is not supported: use cpu, cuda, cuda:0 … or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AdaptError(f"device={name}, but this PyTorch sees no CUDA device: use device=cpu")
    return device


def environment(device: torch.device) -> dict[str, Any]:
    """Device name, threads and package versions, JSON-ready."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    )
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
