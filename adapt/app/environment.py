"""Where a run happened: device, threads, versions. Recorded with every result."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from adapt.errors import AdaptError

__all__ = ["choose_device", "environment", "job_number"]

#: Hydra's own launcher, which runs one job after the other.
SERIAL = "BasicLauncher"
PACKAGES = ("torch", "numpy", "safetensors", "hydra-core", "mlflow", "scikit-learn", "matplotlib", "pillow")


def job_number() -> int | None:
    """The number of this run in a sweep that runs several at a time; None if it has the machine to itself."""
    from hydra.core.hydra_config import HydraConfig  # benchmarks use this module on machines without Hydra
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    alone = hydra.launcher._target_.endswith(SERIAL)
    return int(hydra.job.num) if hydra.mode is RunMode.MULTIRUN and not alone else None


def choose_device(name: str, job: int | None = None) -> torch.device:
    """The device that ``name`` means; ``auto`` takes CUDA where there is one.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:0`` … or ``auto``.
        job: number of the run among those that run at the same time: where ``name`` leaves open which GPU,
            they are dealt out in turn.

    Raises:
        AdaptError: an unknown device, or CUDA where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise AdaptError(f"device={name} is not known: use cpu, cuda, cuda:0 … or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise AdaptError(f"device={name} is not supported: use cpu, cuda, cuda:0 … or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AdaptError(f"device={name}, but this PyTorch sees no CUDA device: use device=cpu")
    if name == "cuda" and job is not None:
        return torch.device("cuda", job % torch.cuda.device_count())
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
