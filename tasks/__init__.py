"""Sources of labelled examples and of functions, styles and episode distributions. Knows nothing of `adapt`.

Importing this package needs torch and numpy only; matplotlib, Pillow and scikit-learn are imported when a
source that needs them is made.
"""

from collections.abc import Callable

from tasks import places as _places  # noqa: F401  # isort: skip: first, it says where modules come from

from .conditions import Conditions
from .control.gridworld import Gridworld
from .corruptions import Corrupted, Corruption
from .curriculum import Curriculum
from .distribution import Distribution, Episode, EpisodeMeta
from .fixed import FixedTasks
from .from_source import from_source
from .functions import FunctionSource, FunctionTasks, Tasks
from .grouped import GroupArrays, GroupDraw, GroupedTasks, GroupSource
from .images.cifar import FC100, Cifar100, CifarFS
from .images.digits import Digits
from .images.emblems import Emblems
from .images.folder import ImageFolder
from .images.glyphs import Glyphs
from .images.gtsrb import GTSRB
from .images.gtsrb_light import GTSRBLight
from .images.omniglot import Omniglot
from .images.omniglot_drawers import OmniglotDrawers
from .images.pneumonia import Pneumonia
from .interop import from_arrays, from_hugging_face, from_learn2learn, from_torch, hugging_face
from .label_noise import NoisyLabels
from .meta_dataset import MetaDataset
from .mixture import Combined, Mixture
from .outside import auroc
from .own_tasks import own_tasks
from .physics.cart_pole import CartPole
from .physics.lotka_volterra import LotkaVolterra
from .physics.pendulum import Pendulum
from .physics.selkov import Selkov
from .regression.families import Families
from .regression.series import SeriesFile
from .regression.sinusoid import Sinusoid
from .regression.vehicle_dynamics import VehicleDynamics
from .regression.volatility import Volatility
from .sizes import Choice, Uniform
from .source import AnySource, ArraySource, Card, Source, TaskError, TaskWarning
from .tables.breast_cancer import BreastCancer
from .tables.german_credit import GermanCredit
from .tables.table_file import table_file
from .text.banking77 import Banking77
from .text.clinc150 import Clinc150
from .text.fewrel import FewRel
from .text.reviews import AmazonReviews
from .text.source import TextSource, TokenSource
from .text.text_file import TextFile
from .transforms import Style, Transform
from .values import RowTasks, ValueArrays, ValueSource
from .views import WithViews, views_of

#: Every source, by the name of its option of `task`. What a config or a file may name, what is audited and
#: what is exported are read from here and from the two tables below: a new source is a file, a row, a config.
SOURCES: dict[str, Callable[..., AnySource]] = {
    "amazon_reviews": AmazonReviews,
    "banking77": Banking77,
    "breast_cancer": BreastCancer,
    "cart_pole": CartPole,
    "cifar100": Cifar100,
    "cifar_fs": CifarFS,
    "clinc150": Clinc150,
    "combined": Combined,
    "digits": Digits,
    "emblems": Emblems,
    "families": Families,
    "fc100": FC100,
    "fewrel": FewRel,
    "german_credit": GermanCredit,
    "glyphs": Glyphs,
    "gridworld": Gridworld,
    "gtsrb": GTSRB,
    "gtsrb_light": GTSRBLight,
    "hugging_face": hugging_face,
    "image_folder": ImageFolder,
    "lotka_volterra": LotkaVolterra,
    "omniglot": Omniglot,
    "omniglot_drawers": OmniglotDrawers,
    "pendulum": Pendulum,
    "pneumonia": Pneumonia,
    "selkov": Selkov,
    "series_file": SeriesFile,
    "sinusoid": Sinusoid,
    "table_file": table_file,
    "text_file": TextFile,
    "vehicle_dynamics": VehicleDynamics,
    "volatility": Volatility,
}

#: Every distribution of tasks: what `task` itself may be.
DISTRIBUTIONS: dict[str, Callable[..., Tasks]] = {
    "conditions": Conditions,
    "corrupted": Corrupted,
    "curriculum": Curriculum,
    "distribution": Distribution,
    "fixed_tasks": FixedTasks,
    "from_source": from_source,
    "function_tasks": FunctionTasks,
    "grouped_tasks": GroupedTasks,
    "mixture": Mixture,
    "noisy_labels": NoisyLabels,
    "own_tasks": own_tasks,
    "row_tasks": RowTasks,
    "with_views": WithViews,
}

#: What distributions have settings of: sizes and transforms.
PARTS: dict[str, Callable[..., object]] = {
    "choice": Choice,
    "corruption": Corruption,
    "meta_dataset": MetaDataset,
    "style": Style,
    "uniform": Uniform,
}

__all__ = [
    "DISTRIBUTIONS",
    "PARTS",
    "SOURCES",
    "AnySource",
    "ArraySource",
    "Card",
    "Episode",
    "EpisodeMeta",
    "FunctionSource",
    "GroupArrays",
    "GroupDraw",
    "GroupSource",
    "Source",
    "TaskError",
    "TaskWarning",
    "Tasks",
    "TextSource",
    "TokenSource",
    "Transform",
    "ValueArrays",
    "ValueSource",
    "auroc",
    "from_arrays",
    "from_hugging_face",
    "from_learn2learn",
    "from_torch",
    "views_of",
]
__all__ += [part.__name__ for table in (SOURCES, DISTRIBUTIONS, PARTS) for part in table.values()]
