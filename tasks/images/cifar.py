"""CIFAR-100 photographs of 100 kinds of things, as published, and in the class splits CIFAR-FS and FC100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks import _cache
from tasks.data import DataFile, data_root, fetch_any, remembered_sha256
from tasks.images import _archives
from tasks.readers.regular import read_regular
from tasks.source import ArraySource, Card, TaskError

__all__ = ["FC100", "Cifar100", "CifarFS"]

#: The official archive, then the same records in another order, packed again.
ARCHIVES = (
    DataFile(
        "cifar100/cifar-100-binary.tar.gz",
        ("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",),
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    ),
    DataFile(
        "cifar100/cifar-100-binary.tar.xz",
        ("ef882e9b13edcfde9df43a5f73fc0d3b28bb85fba3592b01c819d12e17ab4059",),
    ),
)
EXTRACTED = "cifar100/cifar-100-binary"
FILES = ("train.bin", "test.bin", "fine_label_names.txt")
CLASSES, EACH = 100, 600
HELD_OUT = 50  # of the official training images of a class: for validation
SPLIT_SEED = 0  # fixed: splits belong to the source, not to an experiment
RECORD = 2 + 3 * 32 * 32  # bytes: coarse label, fine label, planes of red, green and blue


def _lists(**splits: str) -> dict[str, list[str]]:
    return {split: names.split() for split, names in splits.items()}


COARSE = _lists(
    numbered=(
        "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
        "household_furniture insects large_carnivores large_man-made_outdoor_things "
        "large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals "
        "non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2"
    )
)["numbered"]
# Classes by name, from torchmeta's copies of the authors' lists.
CIFAR_FS = _lists(
    train=(
        "apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock cloud "
        "cockroach couch cup dinosaur dolphin elephant forest girl hamster house kangaroo keyboard "
        "lawn_mower lion lizard lobster mountain mouse mushroom oak_tree orange orchid palm_tree pear "
        "pine_tree plate porcupine possum rabbit raccoon ray road seal shrew skunk skyscraper snake "
        "spider squirrel streetcar sunflower tank tiger train trout tulip turtle willow_tree wolf"
    ),
    validation=(
        "beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter "
        "sea shark television tractor"
    ),
    test=(
        "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail "
        "sweet_pepper table telephone wardrobe whale woman worm"
    ),
)
FC_100 = _lists(
    train=(
        "apple aquarium_fish bed bicycle bottle bowl bridge bus can castle chair clock cloud couch "
        "crocodile cup dinosaur flatfish forest house keyboard lamp lawn_mower lizard maple_tree "
        "motorcycle mountain mushroom oak_tree orange orchid palm_tree pear pickup_truck pine_tree plain "
        "plate poppy ray road rocket rose sea shark skyscraper snake streetcar sunflower sweet_pepper "
        "table tank telephone television tractor train trout tulip turtle wardrobe willow_tree"
    ),
    validation=(
        "bear camel cattle chimpanzee crab elephant hamster kangaroo leopard lion lobster mouse rabbit "
        "shrew snail spider squirrel tiger wolf worm"
    ),
    test=(
        "baby beaver bee beetle boy butterfly caterpillar cockroach dolphin fox girl man otter porcupine "
        "possum raccoon seal skunk whale woman"
    ),
)


class CifarFS(ArraySource):
    """CIFAR-FS: 60,000 colour photographs, [3, 32, 32] in [0, 1], 600 of each of 100 classes.

    Bertinetto et al. (2019), *Meta-learning with differentiable closed-form solvers*: 64, 16 and 20 classes
    of CIFAR-100, drawn at random, for `train`, `validation` and `test`. The official training and test images
    of a class are pooled. Examples are in the order of their classes and contents, whatever that of the
    records is.

    Args:
        root: folder of the data sets; None: `$ADAPT_DATA`, else `~/.cache/adapt`. It holds the archive, or
            the extracted folder, below `cifar100/`.
        download: get the archive from Toronto if it is not there.

    Raises:
        TaskError: the archive is not there, or is another one than it should be.

    Example:
        >>> {split: len(classes) for split, classes in CIFAR_FS.items()}
        {'train': 64, 'validation': 16, 'test': 20}
        >>> CifarFS().classes("test")["baby"].shape  # doctest: +SKIP
        (600,)
    """

    def __init__(self, root: str | None = None, download: bool = False) -> None:
        card, images, members = _few_shot("cifar_fs", CIFAR_FS, root, download)
        super().__init__(card, images, members)


class FC100(ArraySource):
    """FC100: 60,000 colour photographs, [3, 32, 32] in [0, 1], 600 of each of 100 classes.

    Oreshkin et al. (2018), *TADAM: Task dependent adaptive metric for improved few-shot learning*: as
    :class:`CifarFS`, but 60, 20 and 20 classes of 12, 4 and 4 superclasses (vehicles and plants, say, against
    people), so that what is tested is less like what was trained on.

    Args:
        root: as for :class:`CifarFS`.
        download: as for :class:`CifarFS`.

    Raises:
        TaskError: the archive is not there, or is another one than it should be.

    Example:
        >>> {split: len(classes) for split, classes in FC_100.items()}
        {'train': 60, 'validation': 20, 'test': 20}
        >>> FC100().shape  # doctest: +SKIP
        (3, 32, 32)
    """

    def __init__(self, root: str | None = None, download: bool = False) -> None:
        card, images, members = _few_shot("fc100", FC_100, root, download)
        super().__init__(card, images, members)


class Cifar100(ArraySource):
    """CIFAR-100 with the same classes in all splits: 60,000 colour photographs, [3, 32, 32] in [0, 1].

    Krizhevsky (2009), *Learning multiple layers of features from tiny images*. Split `test` holds the
    official test images, 100 of each of the 100 fine classes; `train` 450 of the 500 official training
    images, and `validation` the other 50, drawn by a fixed seed. Each of the 20 coarse classes is five fine
    ones.

    Args:
        labels: "coarse" for 20 classes, "fine" for 100.
        root: as for :class:`CifarFS`.
        download: as for :class:`CifarFS`.

    Raises:
        TaskError: the archive is not there, or is another one than it should be; `labels` is neither.

    Example:
        >>> len(Cifar100().classes("test")["trees"])  # doctest: +SKIP
        500
    """

    def __init__(self, labels: str = "coarse", root: str | None = None, download: bool = False) -> None:
        if labels not in ("coarse", "fine"):
            raise TaskError(f"cifar100: labels={labels!r} is unknown: use 'coarse' or 'fine'")
        data = _decoded(root, download)
        names = COARSE if labels == "coarse" else [str(name) for name in data["names"]]
        label_of = data["coarse"] if labels == "coarse" else np.arange(CLASSES).repeat(EACH)
        split_of = _split_of(data["official_test"])
        members = {
            split: {name: np.flatnonzero((label_of == k) & (split_of == s)) for k, name in enumerate(names)}
            for s, split in enumerate(("train", "validation", "test"))
        }
        super().__init__(_card("cifar100", members), data["images"], members)


def _split_of(official_test: np.ndarray) -> np.ndarray:
    """Of each record 0, 1 or 2: train, validation, test."""
    split = np.where(official_test, 2, 0)
    rng = np.random.default_rng(SPLIT_SEED)
    for of_class in np.split(np.arange(len(split)), CLASSES):
        rows = of_class[split[of_class] == 0]
        split[rng.permutation(rows)[: min(HELD_OUT, len(rows) // 2)]] = 1
    return split


def _few_shot(
    name: str, splits: Mapping[str, Sequence[str]], root: str | None, download: bool
) -> tuple[Card, np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Card, images and members of one of the two."""
    data = _decoded(root, download)
    rows = dict(zip(map(str, data["names"]), np.arange(CLASSES * EACH).reshape(CLASSES, EACH), strict=True))
    members = {split: {label: rows[label] for label in classes} for split, classes in splits.items()}
    return _card(name, splits), data["images"], members


def _decoded(root: str | None, download: bool) -> Mapping[str, np.ndarray]:
    """What :func:`_ordered` gives, kept between runs."""
    folder = (Path(root).expanduser() if root else data_root()) / EXTRACTED
    extracted = [folder / file for file in FILES]
    paths = (
        extracted
        if all(map(Path.is_file, extracted))
        else [fetch_any(ARCHIVES, root=root, download=download)]
    )
    key = _cache.key(*map(remembered_sha256, paths), _cache.file_sha256(Path(__file__)))
    return _cache.memory_mapped(_cache.cache_folder() / f"cifar100-{key}", lambda: _ordered(paths))


def _ordered(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """All records, by class and then by content: the archives in use differ in the order of their records.

    Returns:
        images: uint8 [60000, 3, 32, 32]; coarse: uint8 [60000], numbers of their coarse labels;
        official_test: bool [60000]; names: [100] fine labels, 600 images each.
    """
    if len(paths) == 1:
        prefix = EXTRACTED.split("/")[1]
        found = _archives.read_tar(paths[0], [f"{prefix}/{file}" for file in FILES])
        contents = [found[f"{prefix}/{file}"] for file in FILES]
    else:
        contents = [read_regular(path) for path in paths]
    names = contents[2].decode("ascii").split()
    raw = b"".join(contents[:2])
    if len(raw) != CLASSES * EACH * RECORD or len(set(names)) != CLASSES:
        raise TaskError(f"{paths[0].parent} does not hold CIFAR-100's {CLASSES * EACH} records: get it again")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    official_test = np.arange(len(records)) >= len(contents[0]) // RECORD
    # The label before the pixels, each record one string of bytes: sorting compares as far as it has to.
    keys = np.concatenate([records[:, 1:], official_test[:, None].astype(np.uint8)], axis=1)
    order = np.argsort(keys.view(f"V{RECORD}")[:, 0], kind="stable")
    if not np.array_equal(np.bincount(records[:, 1], minlength=CLASSES), np.full(CLASSES, EACH)):
        raise TaskError(f"{paths[0].parent} does not hold {EACH} images of each class: get it again")
    return {
        "images": records[order, 2:].reshape(-1, 3, 32, 32),
        "coarse": records[order, 0],
        "official_test": official_test[order],
        "names": np.array(names),
    }


def _card(name: str, splits: Mapping[str, Mapping[str, np.ndarray] | Sequence[str]]) -> Card:
    origin, splitting = {
        "cifar_fs": (
            "L. Bertinetto et al. (2019), Meta-learning with differentiable closed-form solvers",
            "Classes were drawn at random: test classes have close relatives (man, boy) among training ones.",
        ),
        "fc100": (
            "B. Oreshkin et al. (2018), TADAM, NeurIPS",
            "Splits are by superclass, yet superclasses such as vehicles 1 and vehicles 2 are related.",
        ),
        "cifar100": (
            "none, all are in each split",
            "Some test images are near duplicates of training ones (Barz and Denzler 2020).",
        ),
    }[name]
    counts = {f"{split} classes": len(classes) for split, classes in splits.items()}
    every = {label for classes in splits.values() for label in classes}
    issues = (
        "Some images are repeated or nearly so within CIFAR-100 (Barz and Denzler 2020): an episode may hold "
        "two of them in support and query.",
        "The distributed archives differ in the order of their records; examples here are ordered by "
        "content, so that an index and the digest mean the same for each of them.",
        "Photographs of 32x32 pixels, scaled down from 80 million tiny images; that collection was withdrawn "
        "in 2020 for offensive labels, which CIFAR-100's own hand-checked labels are not part of.",
        splitting,
    )
    return Card(
        name=name,
        description="Colour photographs of 100 kinds of animals, plants, people and things, 32x32 pixels.",
        origin=(
            "A. Krizhevsky (2009), Learning multiple layers of features from tiny images, "
            f"https://www.cs.toronto.edu/~kriz/cifar.html; class split: {origin}."
        ),
        licence="none stated; published for research",
        terms="Cite the technical report; no licence is granted explicitly.",
        counts={"examples": CLASSES * EACH, "classes": len(every), **counts},
        known_issues=issues,
        personal_data=(
            "The coarse class people (baby, boy, girl, man, woman) shows people, at 32x32 pixels."
            if name == "cifar100"
            else "Five classes (baby, boy, girl, man, woman) show people, at 32x32 pixels."
        ),
        domain="vision",
        commercial=None,
    )
