"""What users would otherwise do, as methods that a comparison can run beside ours: heads, backpropagation
(written here, learn2learn's, higher's; of matrices beside the layers, as TSA), fine-tuning (of all weights,
PEFT's LoRA, SetFit), retraining from random and from pretrained weights, and models of scikit-learn on the
inputs as they are."""

from adapt.adapter import Method
from adapt.baselines.backprop import Backprop
from adapt.baselines.boosting import Boosting
from adapt.baselines.cma_es import CmaEs
from adapt.baselines.finetune import Finetune
from adapt.baselines.finetune_all import FinetuneAll
from adapt.baselines.followed import Followed
from adapt.baselines.head import HeadOnly
from adapt.baselines.higher import Higher
from adapt.baselines.lame import Lame
from adapt.baselines.learn2learn import Learn2Learn
from adapt.baselines.linear import LinearModel
from adapt.baselines.peft_lora import PeftLora
from adapt.baselines.retrain import Retrain
from adapt.baselines.setfit import SetFit
from adapt.baselines.t3a import T3A
from adapt.baselines.tsa import Tsa

#: Every method that ours is compared with, by the name of its option of ``method``: a new one is a file, a
#: row here, and a config.
BASELINES: dict[str, type[Method]] = {
    "backprop": Backprop,
    "boosting": Boosting,
    "finetune": Finetune,
    "finetune_all": FinetuneAll,
    "followed": Followed,
    "head": HeadOnly,
    "higher": Higher,
    "lame": Lame,
    "learn2learn": Learn2Learn,
    "linear": LinearModel,
    "peft_lora": PeftLora,
    "retrain": Retrain,
    "setfit": SetFit,
    "t3a": T3A,
    "tsa": Tsa,
}

__all__ = ["BASELINES", "CmaEs"]
__all__ += [method.__name__ for method in BASELINES.values()]
