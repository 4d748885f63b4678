"""A downstream service in one file: fit a new task from fifteen labelled images, save it, serve it elsewhere.

    python examples/downstream.py

The images are scikit-learn's handwritten digits; the adapter that ships with the library has never seen one.
Needs torch, numpy, scikit-learn and this library, nothing else.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import adapt

NAMES = {0: "zero", 1: "one", 2: "two"}
SHOTS = 5


def digits() -> tuple[torch.Tensor, np.ndarray]:
    """Images [n, 1, 32, 32] in [0, 1], as the shipped backbone takes them, and their names [n]."""
    raw = load_digits()
    chosen = np.isin(raw.target, [*NAMES])
    x = torch.from_numpy(raw.images[chosen]).float()[:, None] / 16  # [n, 1, 8, 8]
    x = torch.nn.functional.interpolate(x, size=28, mode="bilinear", align_corners=False)
    x = torch.nn.functional.pad(x, (2, 2, 2, 2))
    return x, np.array([NAMES[digit] for digit in raw.target[chosen]])


def split(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which images are labelled for us (the first few of each class), and which are not."""
    support = np.concatenate([np.flatnonzero(names == name)[:SHOTS] for name in NAMES.values()])
    return support, np.setdiff1d(np.arange(len(names)), support)


def train(folder: Path) -> np.ndarray:
    """Adapt, say how well it went, save; returns the probabilities of the new images."""
    x, names = digits()
    support, new = split(names)
    adapter = adapt.load("conv4_glyphs_film")
    task = adapter.fit(x[support], names[support])
    task.save_pretrained(folder)
    accuracy = task.score(x[new], names[new])
    print(f"accuracy on {len(new)} new images after {len(support)} labelled ones: {accuracy:.3f}")
    for image, row in zip(new[:3], task.predict_proba(x[new[:3]]), strict=True):
        by_class = ", ".join(f"{name} {p:.2f}" for name, p in zip(task.classes_, row, strict=True))
        print(f"  a {names[image]}: {by_class}")
    return task.predict_proba(x[new])


def serve(folder: Path, answers: Path) -> None:
    """What another process does, days later: load and predict. No adapting, no training data."""
    x, names = digits()
    task = adapt.load(folder)
    np.save(answers, task.predict_proba(x[split(names)[1]]))


def main() -> None:
    """Train here, serve in a fresh process, and compare the two to the last bit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, answers = Path(scratch) / "digits_task", Path(scratch) / "answers.npy"
        expected = train(folder)
        subprocess.run([sys.executable, __file__, "serve", folder, answers], check=True)
        served = np.load(answers)
    if not np.array_equal(served, expected):
        raise SystemExit("the loaded task does not predict what the saved one did")
    print(f"a fresh process predicts the same {served.size} probabilities, bit for bit")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
