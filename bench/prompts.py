"""A long text before all texts: its states computed once, beside running it with every text.

``python -m bench.prompts [--quick]``. The same 25 texts of about twenty tokens behind preambles of several
lengths, through decoders with random weights, on which no time depends: one of GPT-2's shape, and one of a
third of its width and depth, whose attention of a thousand tokens fits into memory. A fit is one Gauss–Newton
step along four directions that scale all norms, so that the preamble's states carry tangents; predicting is
25 texts, the first time after a fit, and again. Both ways in turn, after a fit that is not timed; memory is
what tensors hold at most beyond the weights. One thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter, FittedTask, layered_state
from adapt.backbones import Texts, frozen, require
from adapt.compare.measure import peak_megabytes
from adapt.compare.statistics import ratio_interval
from adapt.inner import GaussNewton
from adapt.memory import keep_freed_memory
from adapt.spaces import film
from bench.lib.record import Row, options, report
from bench.lib.timing import Work, timed

DEPENDS = (
    "adapt/adapter/adapting.py", "adapt/adapter/fitted.py", "adapt/backbones/preamble.py",
    "adapt/backbones/prefix.py", "adapt/backbones/rows.py", "adapt/backbones/settled.py",
    "adapt/backbones/texts.py", "adapt/forward/fast", "adapt/inner/gauss_newton.py",
)  # fmt: skip
K, CLASSES, SHOTS = 4, 5, 5
SHORTEST, LONGEST = 15, 25
ROUNDS = 3
CPU = torch.device("cpu")
END = 0


@dataclass(frozen=True)
class Shape:
    """Of a decoder, and the lengths of preambles that it is given."""

    settings: dict[str, int]
    lengths: tuple[int, ...]


SHAPES = {
    "a third of GPT-2": Shape({"n_embd": 256, "n_layer": 4, "n_head": 4}, (0, 64, 256, 1024)),
    "GPT-2": Shape({}, (0, 256)),
}
QUICK = {"tiny": Shape({"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 100}, (0, 16))}


class Whole(nn.Module):
    """Every text behind the preamble, as plain tokens."""

    def __init__(self, texts: Texts, preamble: Tensor) -> None:
        super().__init__()
        self.texts, self.preamble = texts, nn.Buffer(preamble)

    def tokenise(self, texts: Any) -> Any:
        """Tells that it reads token ids."""
        return self.texts.tokenise(texts)

    def forward(self, ids: Tensor) -> Tensor:
        return self.texts(torch.cat([self.preamble.expand(len(ids), -1), ids], 1))


def backbones(shape: Shape, length: int, generator: torch.Generator) -> dict[str, nn.Module]:
    """``whole`` and, where there is a preamble, ``kept``: the same network both ways."""
    transformers = require("transformers")
    size = {"n_positions": max(1024, length + LONGEST), **shape.settings}
    config = transformers.GPT2Config(**size, bos_token_id=END, eos_token_id=END, attn_implementation="eager")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = transformers.GPT2Model(config)
    decoder.config.use_cache = False
    preamble = torch.randint(1, config.vocab_size, (length,), generator=generator)
    plain = partial(Texts, decoder, lambda texts, **_: texts, pad=END, pooling="last", masking="none")
    found: dict[str, nn.Module] = {"whole": frozen(Whole(plain(), preamble))}
    return found | ({"kept": frozen(plain(preamble=preamble.tolist()))} if length else {})


def examples(vocabulary: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token ids ``[25, LONGEST]`` of texts of unequal lengths, and their classes."""
    n = CLASSES * SHOTS
    ids = torch.randint(1, vocabulary, (n, LONGEST), generator=generator)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (n, 1), generator=generator)
    lengths[0] = LONGEST
    return ids.masked_fill(torch.arange(LONGEST) >= lengths, END), torch.arange(n) % CLASSES


class Way:
    """An adapter on one of the backbones, and what is timed of it."""

    def __init__(self, backbone: nn.Module, x: Tensor, new: Tensor, y: Tensor) -> None:
        space = film(backbone)
        self.adapter = FewShotAdapter(backbone, space, layered_state(space, K), GaussNewton(steps=1))
        self.x, self.new, self.y = x, new, y
        self.task: FittedTask

    def fit(self) -> None:
        self.task = self.adapter.fit(self.x, self.y)

    def predict(self) -> None:
        self.probabilities = self.task.predict_proba(self.new, batch_size=len(self.new))

    def works(self) -> dict[str, Work]:
        """In the order in which they follow each other."""
        return {"fit": self.fit, "predict_first": self.predict, "predict_again": self.predict}


def measure(case: str, ways: dict[str, Way], rounds: int) -> Iterator[Row]:
    """Seconds, megabytes and ratios of a network and a length."""
    memory: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        few = [*range(2 * CLASSES)]  # what is done once for a backbone is no part of a fit, as its checks
        way.adapter.fit(way.x[few], way.y[few])
        memory[name] = {key: peak_megabytes(work, CPU) for key, work in way.works().items()}
    taken: dict[str, dict[str, list[float]]] = {
        name: {key: [] for key in way.works()} for name, way in ways.items()
    }
    for number in range(rounds):
        for name in (*ways,) if number % 2 else (*reversed(ways),):  # nobody is always first
            for key, work in ways[name].works().items():
                taken[name][key].append(timed(work))
    for name, seconds in taken.items():
        for key, values in seconds.items():
            median = sorted(values)[len(values) // 2]
            yield Row.cost(case, f"time/{key}_{name}", median, "s", n=rounds)
            yield Row.cost(case, f"memory/{key}_{name}", memory[name][key], "MB")
    if "kept" not in ways:
        return
    for key in taken["kept"]:
        found = ratio_interval(taken["whole"][key], taken["kept"][key])
        yield Row(case, f"speedup/{key}", found.ratio, "×", n=found.n, note=found.between())
        less = memory["whole"][key] / memory["kept"][key]
        yield Row(case, f"less_memory/{key}", less, "×")
    apart = abs(ways["whole"].probabilities - ways["kept"].probabilities).max()
    yield Row.cost(case, "difference/probabilities", float(apart), goal=1e-3)


def rows(quick: bool, show: Callable[[str], object]) -> Iterator[Row]:
    """All networks and lengths."""
    for name, shape in (QUICK if quick else SHAPES).items():
        for length in shape.lengths:
            generator = torch.Generator().manual_seed(length)
            networks = backbones(shape, length, generator)
            vocabulary = networks["whole"].texts.transformer.config.vocab_size  # type: ignore[union-attr]
            (x, y), (new, _) = (examples(vocabulary, generator) for _ in range(2))
            ways = {key: Way(network, x, new, y) for key, network in networks.items()}
            show(f"{name}, {length} tokens")
            yield from measure(f"{name}, {length} tokens", ways, 1 if quick else ROUNDS)


def main() -> None:
    arguments = options(__doc__).parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    with torch.no_grad():
        report("prompts", [*rows(arguments.quick, partial(print, flush=True))], arguments)


if __name__ == "__main__":
    main()
