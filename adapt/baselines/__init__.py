"""What users would otherwise do, as methods that a comparison can run beside ours: heads, backpropagation
(written here, learn2learn's, higher's), fine-tuning (of all weights, PEFT's LoRA, SetFit), retraining."""

from adapt.baselines.backprop import Backprop
from adapt.baselines.finetune import Finetune
from adapt.baselines.head import HeadOnly
from adapt.baselines.higher import Higher
from adapt.baselines.learn2learn import Learn2Learn
from adapt.baselines.peft_lora import PeftLora
from adapt.baselines.retrain import Retrain
from adapt.baselines.setfit import SetFit

__all__ = ["Backprop", "Finetune", "HeadOnly", "Higher", "Learn2Learn", "PeftLora", "Retrain", "SetFit"]
