"""PneumoniaMNIST: chest X-rays of children, normal or with pneumonia."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from tasks.data import DataFile, fetch_any
from tasks.images._archives import open_zip, read_member
from tasks.source import ArraySource, Card, TaskError

__all__ = ["Pneumonia"]

#: MedMNIST publishes an MD5 only: of the official file, what is in it is counted.
OFFICIAL = DataFile(
    "medmnist/pneumoniamnist.npz",
    (),
    "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
)
SMALL = DataFile(
    "medical/pneumoniamnist.npz", ("a554d2332488d3ddc075125e66a1af77ec379fd2bafc09108ab95a37e2bd9c26",)
)
#: Of the official file and the one with a part of its training images: images of train, val, test.
SIZES = ((4_708, 524, 624), (3_882, 524, 624))
SPLITS = {"train": "train", "validation": "val", "test": "test"}  # ours -> theirs
CLASSES = ("normal", "pneumonia")
SIDE = 28


class Pneumonia(ArraySource):
    """Chest X-rays, [1, 28, 28] in [0, 1], of two classes that are the same in all splits.

    Yang et al. (2023), *MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image
    classification*; the images of Kermany et al. (2018), *Identifying Medical Diagnoses and Treatable
    Diseases by Image-Based Deep Learning*. Splits are the official ones.

    Args:
        root: folder of the data sets; None: `$ADAPT_DATA`, else `~/.cache/adapt`. It holds
            `medmnist/pneumoniamnist.npz`, as published, or `medical/pneumoniamnist.npz`, with fewer training
            images.
        download: get the official file if neither is there.

    Raises:
        TaskError: the file is not there, or is another one.

    Example:
        >>> dict(Pneumonia().classes("test")).keys()  # doctest: +SKIP
        dict_keys(['normal', 'pneumonia'])
    """

    def __init__(self, root: str | None = None, download: bool = False) -> None:
        path = fetch_any([OFFICIAL, SMALL], root=root, download=download)
        with open_zip(path) as archive:
            images, labels = (
                [_array(archive, f"{split}_{kind}.npy") for split in SPLITS.values()]
                for kind in ("images", "labels")
            )
        sizes = tuple(map(len, images))
        fits = all(
            x.dtype == np.uint8 and x.shape[1:] == (SIDE, SIDE) and y.shape == (len(x), 1)
            for x, y in zip(images, labels, strict=True)
        )
        if sizes not in SIZES or not fits or not {0, 1} >= {*np.concatenate(labels).ravel().tolist()}:
            raise TaskError(f"{path} holds {sizes} images where PneumoniaMNIST has {SIZES[0]}: get it again")
        members, first = {}, 0
        for split, y in zip(SPLITS, labels, strict=True):
            rows = {name: first + np.flatnonzero(y[:, 0] == k) for k, name in enumerate(CLASSES)}
            members[split] = rows
            first += len(y)
        super().__init__(_card(members), np.concatenate(images)[:, None], members)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        found: np.ndarray = np.load(io.BytesIO(read_member(archive, name)), allow_pickle=False)
    except (KeyError, ValueError, EOFError) as error:
        raise TaskError(f"{archive.filename}: {name} cannot be read ({error}): get the file again") from None
    return found


def _card(members: dict[str, dict[str, np.ndarray]]) -> Card:
    counts = {f"{split} examples": sum(map(len, rows.values())) for split, rows in members.items()}
    return Card(
        name="pneumonia",
        description="Chest X-rays of children of one to five years, 28 pixels wide: normal, or pneumonia.",
        origin=(
            "J. Yang et al. (2023), MedMNIST v2, https://medmnist.com; of D. Kermany et al. (2018), Cell 172."
        ),
        licence="CC BY 4.0",
        terms="Share and adapt for any purpose, with credit to the authors.",
        counts={"examples": sum(counts.values()), "classes": len(CLASSES), **counts},
        known_issues=(
            "One hospital, and children only: no basis for a decision about anybody.",
            "A child may have several images: the source does not say which are of the same.",
            "The test part holds relatively more normal images than the training part.",
            "28 pixels show less than a doctor sees.",
        ),
        personal_data="Health data of patients, published without names or identifiers.",
        domain="healthcare",
        commercial=True,
    )
