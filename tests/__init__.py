"""Tests. A package, so that `tests.helpers` is ours and not another distribution's top-level `tests`."""
