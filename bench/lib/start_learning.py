"""The starts that ``bench.starts`` measures: what each domain moves, and the middle of some of them.

``experiment=meta_vision_domain`` learns where EfficientNet-Lite0 should start on one domain; a start is the
middle of several of these and of the network as it is (:mod:`adapt.meta.soup`). ``VARIANTS`` learn
it otherwise, to be tried on validation classes.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from adapt.adapter import AdapterState
from adapt.adapter.loading import load
from adapt.app.stages.meta import CHECKPOINT
from adapt.meta.soup import origins_of, soup
from adapt.spaces import Space
from bench.lib.feature_pools import network

__all__ = ["DOMAINS", "MINIATURE_DOMAINS", "VARIANTS", "Start", "learned", "starts_for", "state_of"]

CHARACTERS = "task.transform.invert=0.5"
SIGNS = ("task.support_split=train_support", "task.query_split=train_query")
#: What the tasks of each domain are made with, and whether anybody may use it for anything.
DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Omniglot": ("task=omniglot", CHARACTERS),
    "glyphs": ("task=glyphs", CHARACTERS),
    "emblems": ("task=emblems",),
    "CIFAR-FS": ("task=cifar_fs",),
    "GTSRB": ("task=gtsrb", *SIGNS),
}
FREE = ("Omniglot", "glyphs", "emblems")
MINIATURE_DOMAINS = ("emblems",)
#: What is left out of a start that is tested on a domain: itself and its like.
ALIKE = {
    "GTSRB": ("GTSRB",),
    "CIFAR-FS": ("CIFAR-FS",),
    "Omniglot": ("Omniglot", "glyphs"),
    "digits": ("Omniglot", "glyphs"),
    "pneumonia": (),
}
DIRECTIONS = 5
MINIATURE = (
    *("meta.steps=1", "meta.validation_tasks=1", "meta.validate_every=1", "task.ways=2", "backbone.size=32"),
    "task.source.classes=20",
)
LOW_RANK = ("~space.skip", "space=film_lora", "space.parts.1.targets=*conv_pw*")
UNEVEN = (
    "task.ways={_target_:tasks.Uniform,low:5,high:12}",
    "task.shots={_target_:tasks.Uniform,low:2,high:5}",
    "task.imbalanced=true",
)
#: Other ways of learning one: what may move besides scales and shifts, and tasks of many sizes.
VARIANTS: Mapping[str, tuple[str, ...]] = {"low rank": LOW_RANK, "uneven": UNEVEN}


class Start(NamedTuple):
    """Which domains it is learned on, of those that everybody may use or of all, and which of ``VARIANTS``
    it is."""

    kind: str
    domains: tuple[str, ...]
    variant: str = ""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (*self.domains, self.variant)))


def starts_for(data: str, quick: bool) -> list[Start]:
    kinds = {"free": MINIATURE_DOMAINS} if quick else {"free": FREE, "all": tuple(DOMAINS)}
    return [Start(kind, tuple(it for it in of if it not in ALIKE[data])) for kind, of in kinds.items()]


def learned(name: str, folder: Path, quick: bool, variant: str = "") -> Path:
    """The adapter of a domain; what was interrupted goes on."""
    made, run = folder / variant / "domains" / name, folder / variant / "runs" / name
    if not (made / "adapter_config.json").exists():
        if (run / CHECKPOINT).exists():
            order = ["resume", str(run), f"output={made}"]
        else:
            where = (f"output={made}", f"hydra.run.dir={run}", "tracking=none")
            order = ["experiment=meta_vision_domain", *DOMAINS[name], *where]
            order += [*VARIANTS.get(variant, ()), *(MINIATURE if quick else ())]
        subprocess.run([sys.executable, "-m", "adapt", *order], check=True)
    return made


def state_of(start: Start, folder: Path, quick: bool) -> tuple[Space, AdapterState]:
    """What its domains move, and the middle of where they moved it."""
    made = [str(learned(name, folder, quick, start.variant)) for name in start.domains]
    moves = load(made[0], network()).space
    return moves, soup(moves, origins_of(made, network(), moves), DIRECTIONS)
