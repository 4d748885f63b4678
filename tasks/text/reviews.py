"""Amazon reviews: does somebody praise a thing enough? A task is a kind of goods, and a bar."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np

from tasks.data import DataFile, data_root, fetch_any
from tasks.functions import SPLITS
from tasks.grouped import GroupDraw, draw_rows
from tasks.images import _archives
from tasks.readers.regular import read_regular
from tasks.source import Card, TaskError
from tasks.text.source import Encode, same

__all__ = ["AmazonReviews", "TokenGroups"]

FOLDER = "Amazon_few_shot"
ARCHIVE = DataFile(
    "sentiment/amazon_few_shot.tar.xz",
    ("2372be0b870e19074ae3b0141e09c547493c215dd4cd8dea1b0ecddf0a97411e",),
)
THRESHOLDS = ("t2", "t4", "t5")
PARTS = ("train", "dev", "test")
DOMAINS = (
    *("apparel", "automotive", "baby", "beauty", "books", "camera_photo", "cell_phones_service"),
    *("computer_video_games", "dvd", "electronics", "gourmet_food", "grocery", "health_personal_care"),
    *("jewelry_watches", "kitchen_housewares", "magazines", "music", "office_products", "outdoor_living"),
    *("software", "sports_outdoors", "toys_games", "video"),
)
#: The four domains of the literature's test tasks, and two that choices are made on: of their training parts
#: none is in the archive. All others are for training.
TARGETS = ("books", "dvd", "electronics", "kitchen_housewares")
VALIDATION = ("music", "video")
CLASSES = ("negative", "positive")  # labels -1 and 1 of the files
#: Task -> class -> rows.
Members = dict[str, list[np.ndarray]]


class TokenGroups:
    """Groups of texts as rows of token ids, made when they are drawn: there are many more than a run reads.

    Args:
        card: its data sheet.
        texts: of all groups.
        members: split -> group -> rows of each class.
        given: group -> rows of each class that supports are taken from first.
        encode: texts -> token ids int64 [n, L].
    """

    grouped: ClassVar[bool] = True
    regression: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(
        self,
        card: Card,
        texts: Sequence[str],
        members: Mapping[str, Members],
        given: Members,
        encode: Encode | None = None,
    ) -> None:
        self.card, self.name, self.shape = card, card.name, ()
        self.texts = tuple(texts)
        self._members, self._given, self._encode = members, given, encode
        self._groups = {name: rows for groups in members.values() for name, rows in groups.items()}

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Task -> the size of its smaller class."""
        if split not in self._members:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self.splits)}")
        return {name: min(map(len, rows)) for name, rows in self._members[split].items()}

    def rows(self, group: str) -> tuple[np.ndarray, ...]:
        """Where in ``texts`` those of each class of a task are."""
        return tuple(self._groups[group])

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Reviews of both classes; see `GroupSource.sample`. Examples are token ids ``[n, L]``, L that of the
        longest of the draw."""
        pools = self._groups[group]
        given = [own[:shots] for own in self._given.get(group, [pools[0][:0]] * len(pools))]
        parts = []
        for pool, own in zip(pools, given, strict=True):
            rest = pool[~np.isin(pool, own)]
            first, asked = draw_rows(rng, [rest], shots - len(own), queries)
            parts.append((np.concatenate([own, first]), asked))
        return self._draw(*([part[i] for part in parts] for i in (0, 1)))

    def official(self, group: str) -> GroupDraw:
        """The ten labelled reviews of a test task and all reviews of its test part, as they were published,
        positive ones in the majority.

        Raises:
            TaskError: it is no test task.
        """
        if group not in self._given:
            raise TaskError(f"{self.name}: {group} is no test task: these are {', '.join(self._given)}")
        given = self._given[group]
        pools = zip(self._groups[group], given, strict=True)
        return self._draw(given, [pool[~np.isin(pool, own)] for pool, own in pools])

    def _draw(self, support: list[np.ndarray], query: list[np.ndarray]) -> GroupDraw:
        (x, y), (q, t) = (
            (self._load(np.concatenate(rows)), np.repeat(np.arange(len(rows)), [*map(len, rows)]))
            for rows in (support, query)
        )
        return GroupDraw(x, y, q, t, CLASSES, np.concatenate(support), np.concatenate(query))

    def _load(self, rows: np.ndarray) -> np.ndarray:
        if self._encode is None:
            raise TaskError(
                f"{self.name} holds texts, which a backbone with a tokeniser reads: choose one, for instance "
                "backbone=minilm, or call encoded(tokenise) first"
            )
        return np.asarray(self._encode([self.texts[row] for row in rows]), np.int64)

    def digest(self) -> str:
        """sha256 (hex) of texts, tasks and splits."""
        sha = hashlib.sha256()
        for text in self.texts:
            sha.update(repr(text).encode())
        for split, groups in self._members.items():
            for name, rows in groups.items():
                sha.update(repr((split, name, [len(part) for part in rows])).encode())
                for part in (*rows, *self._given.get(name, ())):
                    sha.update(part.astype("<i8").tobytes())
        return sha.hexdigest()

    def encoded(self, encode: Encode, pad: int = 0) -> TokenGroups:
        """The same tasks over rows of token ids; `pad` is what `encode` fills shorter texts with."""
        return TokenGroups(self.card, self.texts, self._members, self._given, encode)


class AmazonReviews(TokenGroups):
    """Reviews of 23 kinds of goods, each kind with three bars: 69 tasks of two classes.

    Yu, Guo, Yi, Chang, Potdar, Cheng, Tesauro, Wang, Zhou (2018), *Diverse Few-Shot Text Classification with
    Multiple Metrics* (ARSC). A review is positive if it gives more stars than the bar says (t2, t4, t5).
    Split `test` holds the twelve tasks of the literature (books, dvd, electronics, kitchen): supports are the
    ten reviews labelled there, queries of the test part; :meth:`official` gives all of these, unbalanced as
    they are. `validation` holds the six of music and video, `train` the 51 of all other goods.

    Args:
        root: folder of the data sets; None: `$ADAPT_DATA`, or `~/.cache/adapt`. It holds the archive below
            `sentiment/`, or the extracted folder `Amazon_few_shot`.
        official: whether supports of test tasks are the published ones; False: any five, as queries are.

    Raises:
        TaskError: the archive is not there or is another one.

    Example:
        >>> len(TARGETS) * len(THRESHOLDS)
        12
        >>> AmazonReviews().groups("test")["books.t2"]  # doctest: +SKIP
        55
    """

    #: Tells it from sources of arrays.
    text: ClassVar[bool] = True

    def __init__(self, root: str | os.PathLike[str] | None = None, official: bool = True) -> None:
        files = _read(root)
        domains = sorted({name.partition(".")[0] for name in files})
        split_of = dict.fromkeys(domains, "train") | dict.fromkeys(VALIDATION, "validation")
        split_of |= dict.fromkeys(TARGETS, "test")
        texts: list[str] = []
        members: dict[str, Members] = {split: {} for split in SPLITS}
        given: Members = {}
        repeats = total = 0
        for domain in domains:
            for threshold in THRESHOLDS:
                name, target = f"{domain}.{threshold}", domain in TARGETS
                seen: set[str] = set()
                rows: list[list[int]] = [[], []]
                for part in ("train", "test") if target else PARTS:
                    for text, label in files.get(f"{name}.{part}", ()):
                        total, known = total + 1, same(text)
                        # Test parts stay whole, so that figures are those of the literature.
                        if known in seen and not (target and part == "test"):
                            repeats += 1
                            continue
                        seen.add(known)
                        rows[label].append(len(texts))
                        texts.append(text)
                    if target and part == "train" and official:
                        given[name] = [np.array(own) for own in rows]
                members[split_of[domain]][name] = [np.array(own) for own in rows]
        super().__init__(_card(texts, members, repeats, total), texts, members, given)


def _read(root: str | os.PathLike[str] | None) -> dict[str, list[tuple[str, int]]]:
    """File -> (text, label 0 or 1), in order."""
    folder = (Path(root).expanduser() if root else data_root()) / "sentiment" / FOLDER
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir() if path.name.rpartition(".")[2] in PARTS)
        contents = {name: read_regular(folder / name) for name in names}
    else:
        path = fetch_any([ARCHIVE], root=root)
        members = {
            f"{FOLDER}/{domain}.{threshold}.{part}"
            for domain, threshold, part in product(DOMAINS, THRESHOLDS, PARTS)
            if part != "train" or domain not in VALIDATION
        }
        found = _archives.read_tar(path, members)
        contents = {name.rpartition("/")[2]: data for name, data in sorted(found.items())}
    made = {}
    for name, data in contents.items():
        lines = data.decode("utf-8").split("\n")
        pairs = [line.rsplit("\t", 1) for line in lines if line.strip()]
        if any(len(pair) != 2 or pair[1] not in ("1", "-1") or not pair[0].strip() for pair in pairs):
            raise TaskError(f"{name}: a line is no review, a tab, and 1 or -1: get the file again")
        made[name] = [(text, int(label == "1")) for text, label in pairs]
    needed = (f"{domain}.{threshold}.test" for domain, threshold in product(DOMAINS, THRESHOLDS))
    if missing := [name for name in needed if not made.get(name)]:
        raise TaskError(f"{FOLDER} holds no {missing[0]}: get it again")
    return made


def _card(texts: Sequence[str], members: Mapping[str, Members], repeats: int, total: int) -> Card:
    return Card(
        name="amazon_reviews",
        description="English reviews of goods, by whether they give more stars than a bar, one of three.",
        origin=(
            "Yu et al. (2018), Diverse Few-Shot Text Classification with Multiple Metrics, "
            "https://github.com/Gorov/DiverseFewShot_Amazon; of reviews that Blitzer, Dredze, Pereira (2007) "
            "collected at Amazon."
        ),
        licence="none named",
        terms="Published for research; reviews belong to those who wrote them.",
        counts={
            "examples": len(texts),
            "classes": len(CLASSES),
            **{f"{split} tasks": len(tasks) for split, tasks in members.items()},
        },
        known_issues=(
            f"{repeats} of {total} rows repeat an earlier one of their task: left out, but for test parts.",
            "Test parts hold up to 94 % positive reviews: report balanced accuracy beside accuracy.",
            "The training parts of music and video are missing in the archive that is known here.",
            "Bars are of the same goods and share reviewers; stop words were left out of the texts.",
        ),
        personal_data="Reviews are personal statements; names were not removed.",
        domain="retail",
        commercial=False,
    )
