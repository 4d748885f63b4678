"""Pretrained networks that turn examples into features."""

from adapt.backbones.call import call
from adapt.backbones.checkpoint import ARCHITECTURES, BackboneInfo, load_backbone, save_backbone, untrained
from adapt.backbones.conv4 import Conv4
from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.frozen_norm import FrozenBatchNorm, freeze_batch_norm
from adapt.backbones.inputs import Tokenise, input_dtype, tokeniser
from adapt.backbones.libraries import require
from adapt.backbones.mlp import Mlp
from adapt.backbones.prefix import FrozenPrefix
from adapt.backbones.resnet12 import ResNet12

__all__ = [
    "ARCHITECTURES",
    "BackboneInfo",
    "Conv4",
    "FrozenBatchNorm",
    "FrozenPrefix",
    "Mlp",
    "ResNet12",
    "Tokenise",
    "call",
    "fingerprint",
    "freeze_batch_norm",
    "input_dtype",
    "load_backbone",
    "require",
    "save_backbone",
    "tokeniser",
    "untrained",
]
