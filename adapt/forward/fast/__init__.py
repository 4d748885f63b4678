"""The fast engine: tangents carried through a network by rules, one per operator, with symbolic zeros."""

from adapt.forward.fast.dual import Dual
from adapt.forward.fast.engine import fast

__all__ = ["Dual", "fast"]
