"""Where things lie."""

from pathlib import Path

__all__ = ["DOCS", "KEPT", "RESULTS", "ROOT"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
#: What a benchmark keeps so that it can be gone on with, each in a folder of its own.
KEPT = ROOT / "outputs" / "bench"
