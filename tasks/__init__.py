"""Task sources, styles and episode distributions. Knows nothing of `adapt`.

Importing this package needs torch and numpy only; matplotlib, Pillow and scikit-learn are imported when a
source that needs them is made.
"""

from .digits import Digits
from .distribution import Distribution, Episode, EpisodeMeta
from .glyphs import Glyphs
from .source import ArraySource, Card, Source, TaskError
from .transforms import Style, Transform

__all__ = [
    "ArraySource",
    "Card",
    "Digits",
    "Distribution",
    "Episode",
    "EpisodeMeta",
    "Glyphs",
    "Source",
    "Style",
    "TaskError",
    "Transform",
]
