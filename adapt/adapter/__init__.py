"""What downstream code uses: fit a few labelled examples, predict, save, load."""

from adapt.adapter.calibration import Calibration
from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.fitted import FittedTask
from adapt.adapter.loading import load
from adapt.adapter.matching import Matching
from adapt.adapter.method import Context, Forward, Method, Predictor, Role, Saved, Support
from adapt.adapter.online import Surprise
from adapt.adapter.peft import export_peft
from adapt.adapter.private import Privacy
from adapt.adapter.problem import Problem
from adapt.adapter.source import Source
from adapt.adapter.state import AdapterState, identity_state, initial_state, layered_state
from adapt.adapter.together import Statistics
from adapt.adapter.uncertainty import Predictive

__all__ = [
    "AdapterState",
    "Calibration",
    "Context",
    "FewShotAdapter",
    "FittedTask",
    "Forward",
    "Matching",
    "Method",
    "Predictive",
    "Predictor",
    "Privacy",
    "Problem",
    "Role",
    "Saved",
    "Source",
    "Statistics",
    "Support",
    "Surprise",
    "export_peft",
    "identity_state",
    "initial_state",
    "layered_state",
    "load",
]
