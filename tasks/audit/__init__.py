"""What is wrong with a source before anything is measured on it: leaks between splits, repeats, conflicting
labels, broken numbers, an incomplete card, a licence that forbids a use.

From the command line: `python -m tasks.audit digits`. Near duplicates of images need `imagehash`, those of
texts `datasketch` (extra `audit`).
"""

from .check import audit
from .report import Finding, Place, Report

__all__ = ["Finding", "Place", "Report", "audit"]
