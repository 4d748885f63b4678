"""What users would otherwise do, as methods that a comparison can run beside ours."""

from adapt.baselines.backprop import Backprop
from adapt.baselines.finetune import Finetune
from adapt.baselines.head import HeadOnly
from adapt.baselines.retrain import Retrain

__all__ = ["Backprop", "Finetune", "HeadOnly", "Retrain"]
