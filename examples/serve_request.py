"""Ask a served adapter over HTTP: five labelled digits a class and some new ones in, probabilities out.

    mlflow models serve -m models:/digits@champion --env-manager local --port 5001
    python examples/serve_request.py http://127.0.0.1:5001

The images are scikit-learn's handwritten digits, as the shipped backbones take them. Needs numpy and
scikit-learn only: the client knows nothing of this library.
"""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

NAMES = {0: "zero", 1: "one", 2: "two"}
SHOTS, QUERIES = 5, 4


def images(chosen: np.ndarray) -> np.ndarray:
    """Images [n, 1, 32, 32] in [0, 1]: every pixel of the scans becomes 3 × 3, with a margin of 4."""
    large = load_digits().images[chosen].repeat(3, axis=1).repeat(3, axis=2) / 16  # [n, 24, 24]
    return np.pad(large, ((0, 0), (4, 4), (4, 4)))[:, None]


def request() -> tuple[dict[str, Any], list[str]]:
    """The request, and what the new images really are."""
    target = load_digits().target
    rows = {name: np.flatnonzero(target == digit) for digit, name in NAMES.items()}
    support = np.concatenate([found[:SHOTS] for found in rows.values()])
    queries = np.concatenate([found[SHOTS : SHOTS + QUERIES] for found in rows.values()])
    task = {
        "support_x": images(support).tolist(),
        "support_y": [name for name in rows for _ in range(SHOTS)],
        "query_x": images(queries).tolist(),
    }
    return {"inputs": task}, [name for name in rows for _ in range(QUERIES)]


def ask(address: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST ``body``; the predictions.

    Raises:
        SystemExit: the server cannot use the request, and says why.
    """
    sent = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(sent, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)["predictions"]
            return found
    except urllib.error.HTTPError as error:
        raise SystemExit(f"HTTP {error.code}: {json.load(error)['message']}") from None


def main() -> None:
    """Ask, and print what comes back."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:5001"
    body, truth = request()
    answer = ask(address, body)
    for name, label, row in zip(truth, answer["labels"], answer["probabilities"], strict=True):
        chances = ", ".join(f"{name} {p:.2f}" for name, p in zip(answer["classes"], row, strict=True))
        print(f"a {name}: {label} ({chances})")
    right = sum(name == label for name, label in zip(truth, answer["labels"], strict=True))
    print(f"{right} of {len(truth)} right, after {SHOTS} labelled images a class")


if __name__ == "__main__":
    main()
