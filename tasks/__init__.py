"""Sources of labelled examples and of functions, styles and episode distributions. Knows nothing of `adapt`.

Importing this package needs torch and numpy only; matplotlib, Pillow and scikit-learn are imported when a
source that needs them is made.
"""

from .distribution import Distribution, Episode, EpisodeMeta
from .functions import FunctionSource, FunctionTasks, Tasks
from .images.digits import Digits
from .images.glyphs import Glyphs
from .regression.sinusoid import Sinusoid
from .regression.vehicle_dynamics import VehicleDynamics
from .source import ArraySource, Card, Source, TaskError
from .transforms import Style, Transform

__all__ = [
    "ArraySource",
    "Card",
    "Digits",
    "Distribution",
    "Episode",
    "EpisodeMeta",
    "FunctionSource",
    "FunctionTasks",
    "Glyphs",
    "Sinusoid",
    "Source",
    "Style",
    "TaskError",
    "Tasks",
    "Transform",
    "VehicleDynamics",
]
