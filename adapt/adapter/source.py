"""What has to be known of examples like those that a classifier was fitted to, when conditions change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.adapter.inputs import Examples
from adapt.adapter.loaders import is_loader, parts_of
from adapt.adapter.record import AdapterRecord, TaskRecord
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.files import read_metadata, read_tensors, write_tensors
from adapt.hashes import sha256_of
from adapt.spaces.shifting import shifting_norms
from adapt.spaces.statistics import Means, channel_means

__all__ = ["FEWEST", "Source", "read_as", "source_of"]

#: Examples of which something is known; of halves of these, two.
FEWEST = 4
MADE = "make it with task.source(x)"
#: Of a deviation to a mean, above which examples differ by more than rounding.
ALIKE = 1e-4
MEAN, SHA = "mean.", "sha256"


class Source(NamedTuple):
    """Mean and deviation of each feature over examples like those that a head was fitted to ``[D]``, and of
    norms without statistics of their own the mean of every channel, by the names of their shifts."""

    centre: Tensor
    spread: Tensor
    means: Means

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, for :meth:`load`."""
        means = {f"{MEAN}{name}": mean for name, mean in self.means.items()}
        tensors = {"centre": self.centre, "spread": self.spread, **means}
        write_tensors(Path(path), tensors, {SHA: sha256_of(tensors)})

    @classmethod
    def load(cls, path: str | Path) -> Source:
        """What :meth:`save` wrote.

        Raises:
            AdaptError: the file is missing, damaged, or another one.
        """
        found = read_tensors(Path(path))
        if not {"centre", "spread"} <= found.keys():
            raise AdaptError(f"{path} holds no source: write one with task.source(x).save(path)")
        if read_metadata(Path(path)).get(SHA) != sha256_of(found):
            raise AdaptError(f"{path} is no whole source: it is damaged, write it anew")
        means = {key.removeprefix(MEAN): value for key, value in found.items() if key.startswith(MEAN)}
        return cls(found["centre"], found["spread"], means)

    def of(self, task: TaskRecord) -> Source:
        """The same on the device of ``task``.

        Raises:
            AdaptError: it is of another network.
        """
        norms = shifting_norms(task.adapter.backbone, task.adapter.space) if self.means else {}
        for name, mean in self.means.items():
            channels = norms[name].channels if name in norms else 0
            if mean.shape != (channels,):
                raise AdaptError(
                    f"source has {mean.numel()} means of '{name}', which here follows {channels}: {MADE}"
                )
        if self.centre.shape != self.spread.shape or not bool((self.spread > 0).all()):
            raise AdaptError(f"source has no deviation of each of its features: {MADE}")
        if not all(bool(it.isfinite().all()) for it in (self.centre, self.spread, *self.means.values())):
            raise AdaptError(f"source holds NaN or infinity: {MADE}")
        device = task.z.device
        means = {name: mean.to(device) for name, mean in self.means.items()}
        return Source(self.centre.to(device), self.spread.to(device), means)

    def units(self, features: Tensor) -> Tensor:
        """Features ``[n, D]`` by how many deviations they are from the mean."""
        if features.shape[-1:] != self.centre.shape:
            raise AdaptError(
                f"source is of {self.centre.numel()} features, of which there are {features.shape[-1]} here: "
                f"{MADE}"
            )
        return (features - self.centre) / self.spread


def source_of(task: TaskRecord, x: Examples) -> Source:
    """See :meth:`adapt.FittedTask.source`."""
    adapter = task.adapter
    phi = adapter.state.origin + adapter.subspace.move(task.z)
    with torch.no_grad():
        examples = read_as("source", adapter, x)
        if len(examples) < FEWEST:
            raise AdaptError(f"source: of {len(examples)} examples nothing is known; give {FEWEST} or more")
        features = call(adapter.backbone, task.parameters, examples)
        means = channel_means(adapter.backbone, adapter.space, phi, examples)
    centre, spread = features.mean(0), features.std(0)
    widest = spread.max()
    if not bool(widest > ALIKE * centre.abs().max()):
        raise AdaptError("source: its examples are all alike, and say nothing of others: give unlike ones")
    return Source(centre, torch.where(spread > 1e-3 * widest, spread, widest), means)


def read_as(name: str, adapter: AdapterRecord, x: Examples, fewest: int = 1) -> Tensor:
    """Examples of an argument called ``name``, whose order says nothing."""
    try:
        return adapter.examples(parts_of(x, ordered=False)[0] if is_loader(x) else x, fewest)
    except AdaptError as error:
        raise AdaptError(re.sub(r"^x\b", name, str(error))) from None
