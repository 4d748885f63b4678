"""Pretrained networks that turn examples into features."""

from adapt.backbones.call import call, plain_call
from adapt.backbones.checkpoint import ARCHITECTURES, load_backbone, save_backbone, untrained
from adapt.backbones.contract import check_contract, examples_for
from adapt.backbones.conv4 import Conv4
from adapt.backbones.fingerprint import check_state, fingerprint
from adapt.backbones.frozen import frozen
from adapt.backbones.frozen_norm import FrozenBatchNorm, freeze_batch_norm
from adapt.backbones.images import Images
from adapt.backbones.info import BackboneInfo, info_of
from adapt.backbones.inputs import Tokenise, input_dtype, inputs_for, tokeniser
from adapt.backbones.libraries import require
from adapt.backbones.mlp import Mlp
from adapt.backbones.named import FAMILIES
from adapt.backbones.own import own, ready
from adapt.backbones.prefix import FrozenPrefix
from adapt.backbones.ranges import Pictures, pictures_of
from adapt.backbones.resnet12 import ResNet12
from adapt.backbones.rollout import Rollout
from adapt.backbones.rows import by_rows
from adapt.backbones.settled import settled
from adapt.backbones.structure import check_structure, device_of, duplicate
from adapt.backbones.texts import Texts
from adapt.backbones.vit import ViT

__all__ = [
    "ARCHITECTURES",
    "FAMILIES",
    "BackboneInfo",
    "Conv4",
    "FrozenBatchNorm",
    "FrozenPrefix",
    "Images",
    "Mlp",
    "Pictures",
    "ResNet12",
    "Rollout",
    "Texts",
    "Tokenise",
    "ViT",
    "by_rows",
    "call",
    "check_contract",
    "check_state",
    "check_structure",
    "device_of",
    "duplicate",
    "examples_for",
    "fingerprint",
    "freeze_batch_norm",
    "frozen",
    "info_of",
    "input_dtype",
    "inputs_for",
    "load_backbone",
    "own",
    "pictures_of",
    "plain_call",
    "ready",
    "require",
    "save_backbone",
    "settled",
    "tokeniser",
    "untrained",
]
