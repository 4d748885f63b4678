"""One table for every contract of ``tasks``: a new source is proven by one row."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks import (
    FC100,
    GTSRB,
    AmazonReviews,
    Banking77,
    BreastCancer,
    Card,
    CartPole,
    Cifar100,
    CifarFS,
    Clinc150,
    Combined,
    Digits,
    Emblems,
    Families,
    FewRel,
    FunctionSource,
    GermanCredit,
    Glyphs,
    Gridworld,
    GroupSource,
    GTSRBLight,
    ImageFolder,
    LotkaVolterra,
    Omniglot,
    OmniglotDrawers,
    Pendulum,
    Pneumonia,
    Selkov,
    SeriesFile,
    Sinusoid,
    Source,
    TextFile,
    TextSource,
    VehicleDynamics,
    Volatility,
    from_arrays,
    table_file,
)
from tests.csv_files import from_csv, patients, walks
from tests.helpers import DATA, make_source

#: What was decoded from public data sets, in pytest's own cache: `pytest --cache-clear` removes it.
DECODED = Path(__file__).resolve().parents[2] / ".pytest_cache" / "d" / "decoded"


def public(make: Callable[[], Any]) -> Callable[[], Any]:
    """A source of public data sets: skipped where there are none; what it decodes is kept between runs."""

    def row() -> Any:
        if not (DATA / "omniglot").is_dir():
            pytest.skip(f"no public data sets in {DATA}: set ADAPT_DATA")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ADAPT_DATA", str(DATA))
            patch.setenv("ADAPT_CACHE", str(DECODED))
            return make()

    return row


def make_image_folder() -> ImageFolder:
    """Two classes of six images each, from files."""
    with tempfile.TemporaryDirectory() as root:
        for number in range(12):
            file = Path(root, "images", f"class {number % 2}", f"{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (20 * number, 0, number)).save(file)
        return ImageFolder(f"{root}/images", size=8)


SOURCES: dict[str, Callable[[], Source]] = {
    "digits": lambda: Digits(size=8),
    "table_file": lambda: from_csv(lambda path: table_file(path, ignore=["value"]), patients()),  # type: ignore[dict-item, return-value]
    "glyphs": lambda: Glyphs(size=16, max_classes=40),
    "emblems": lambda: Emblems(size=16, classes=20, per_class=6),
    "array": make_source,
    "two sources": lambda: Combined({"a": make_source(), "b": make_source(seed=1)}),
    "from_arrays": lambda: from_arrays(
        np.arange(36, dtype=np.uint8).reshape(18, 2), np.arange(18) // 3, splits={"a": 1, "b": 1}
    ),
    "image_folder": make_image_folder,
    "omniglot": public(lambda: Omniglot()),
    "omniglot, turned": public(lambda: Omniglot(size=16, rotations=True)),
    "cifar100": public(lambda: Cifar100()),
    "cifar100, fine": public(lambda: Cifar100("fine")),
    "cifar_fs": public(lambda: CifarFS()),
    "fc100": public(lambda: FC100()),
    "gtsrb": public(lambda: GTSRB()),
    "pneumonia": public(lambda: Pneumonia()),
    "gtsrb, all classes": public(lambda: GTSRB(size=16, split_by="tracks")),
}

MOODS = [f"{word} weather number {i},{word}" for word in ("good", "bad") for i in range(9)]
PLAIN = Card("text", "greetings", "made here", "CC0", "none", {}, (), "none")

TEXTS: dict[str, Callable[[], Source]] = {
    "text": lambda: TextSource(PLAIN, ["hi", "hello", "bye"], {"train": {"in": [0, 1], "out": [2]}}),
    "text_file": lambda: from_csv(TextFile, "\n".join(["text,label", *MOODS])),
    "banking77": public(lambda: Banking77()),
    "clinc150": public(lambda: Clinc150()),
    "clinc150, some topics": public(lambda: Clinc150(without=["banking", "credit_cards", "exchange_rate"])),
    "fewrel": public(lambda: FewRel()),
    "fewrel, unmarked": public(lambda: FewRel(markers=False)),
}

FUNCTIONS: dict[str, Callable[[], FunctionSource]] = {
    "sinusoid": Sinusoid,
    "sinusoid, noisy": lambda: Sinusoid(noise=0.1),
    "families": lambda: Families({"vehicle": VehicleDynamics(), "sinusoid": Sinusoid()}),
    "vehicle_dynamics": VehicleDynamics,
    "vehicle_dynamics, noisy": lambda: VehicleDynamics(noise=0.1),
    "volatility": Volatility,
}


def letters(texts: Sequence[str]) -> np.ndarray:
    """Texts as numbers of their first letters, in place of a tokeniser."""
    return np.array([[ord(letter) for letter in text[:8].ljust(8)] for text in texts], np.int64)


GROUPS: dict[str, Callable[[], GroupSource]] = {
    "amazon_reviews": public(lambda: AmazonReviews().encoded(letters)),
    "breast_cancer": lambda: BreastCancer(generated=20),
    "cart_pole": lambda: CartPole(points=3),
    "german_credit": public(lambda: GermanCredit()),
    "german_credit, with protected attributes": public(lambda: GermanCredit(protected=True)),
    "gridworld": lambda: Gridworld(size=5),
    "gridworld, seen by the agent": lambda: Gridworld(size=5, view="agent", flat=True),
    "gtsrb_light": public(lambda: GTSRBLight()),
    "gtsrb_light, by sharpness": public(lambda: GTSRBLight(size=16, levels=5, by="sharpness")),
    "lotka_volterra": LotkaVolterra,
    "lotka_volterra, noisy": lambda: LotkaVolterra(noise=0.1),
    "omniglot_drawers": public(lambda: OmniglotDrawers()),
    "pendulum": lambda: Pendulum(points=3),
    "selkov": Selkov,
    "series_file": lambda: from_csv(lambda path: SeriesFile(path, lags=5, horizon=2), walks()),
    "table_file, grouped": lambda: from_csv(lambda path: _grouped(path, "label"), patients()),
    "table_file, grouped values": lambda: from_csv(lambda path: _grouped(path, "value"), patients()),
}


def _grouped(path: str, label: str) -> GroupSource:
    found = table_file(path, label, "hospital", ignore=["value" if label == "label" else "label"])
    assert isinstance(found, GroupSource)
    return found


#: Sources that are ready as they are need no row of their own here.
OWN_ROWS = {name.split(",")[0] for name in (*SOURCES, *TEXTS, *FUNCTIONS, *GROUPS)}
SOURCES |= {  # type: ignore[arg-type]
    name: kind for name, kind in tasks.SOURCES.items() if name not in OWN_ROWS | {"combined", "hugging_face"}
}
