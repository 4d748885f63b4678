"""Sources of labelled examples and of functions, styles and episode distributions. Knows nothing of `adapt`.

Importing this package needs torch and numpy only; matplotlib, Pillow and scikit-learn are imported when a
source that needs them is made.
"""

from tasks import places as _places  # noqa: F401  # isort: skip: first, it says where modules come from

from .control.gridworld import Gridworld
from .corruptions import Corrupted, Corruption
from .curriculum import Curriculum
from .distribution import Distribution, Episode, EpisodeMeta
from .from_source import from_source
from .functions import FunctionSource, FunctionTasks, Tasks
from .grouped import GroupArrays, GroupDraw, GroupedTasks, GroupSource
from .images.cifar import FC100, CifarFS
from .images.digits import Digits
from .images.folder import ImageFolder
from .images.glyphs import Glyphs
from .images.gtsrb import GTSRB
from .images.omniglot import Omniglot
from .interop import from_arrays, from_hugging_face, from_learn2learn, from_torch, hugging_face
from .label_noise import NoisyLabels
from .meta_dataset import MetaDataset
from .mixture import Combined, Mixture
from .outside import auroc
from .regression.series import SeriesFile
from .regression.sinusoid import Sinusoid
from .regression.vehicle_dynamics import VehicleDynamics
from .regression.volatility import Volatility
from .sizes import Choice, Uniform
from .source import AnySource, ArraySource, Card, Source, TaskError, TaskWarning
from .tables.breast_cancer import BreastCancer
from .tables.table_file import table_file
from .text.banking77 import Banking77
from .text.clinc150 import Clinc150
from .text.fewrel import FewRel
from .text.source import TextSource, TokenSource
from .text.text_file import TextFile
from .transforms import Style, Transform

__all__ = [
    "FC100",
    "GTSRB",
    "AnySource",
    "ArraySource",
    "Banking77",
    "BreastCancer",
    "Card",
    "Choice",
    "CifarFS",
    "Clinc150",
    "Combined",
    "Corrupted",
    "Corruption",
    "Curriculum",
    "Digits",
    "Distribution",
    "Episode",
    "EpisodeMeta",
    "FewRel",
    "FunctionSource",
    "FunctionTasks",
    "Glyphs",
    "Gridworld",
    "GroupArrays",
    "GroupDraw",
    "GroupSource",
    "GroupedTasks",
    "ImageFolder",
    "MetaDataset",
    "Mixture",
    "NoisyLabels",
    "Omniglot",
    "SeriesFile",
    "Sinusoid",
    "Source",
    "Style",
    "TaskError",
    "TaskWarning",
    "Tasks",
    "TextFile",
    "TextSource",
    "TokenSource",
    "Transform",
    "Uniform",
    "VehicleDynamics",
    "Volatility",
    "auroc",
    "from_arrays",
    "from_hugging_face",
    "from_learn2learn",
    "from_source",
    "from_torch",
    "hugging_face",
    "table_file",
]
