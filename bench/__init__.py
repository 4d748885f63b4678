"""Measured comparisons: ``python -m bench.<name>`` prints a table, writes ``bench/results/<name>.json``."""
