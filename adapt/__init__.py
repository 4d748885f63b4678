"""Adaptive Behavior: few-shot adaptation of pretrained backbones with forward gradients only.

    >>> import adapt
    >>> adapter = adapt.load("conv4_glyphs_film")      # a shipped adapter, or a folder
    >>> task = adapter.fit(x, y)                        # a few labelled examples   # doctest: +SKIP
    >>> task.predict_proba(x_new)                       # doctest: +SKIP

Importing needs torch, numpy and safetensors only; Hydra, MLflow and the rest are imported where they are
used.
"""

from adapt.adapter import FewShotAdapter, FittedTask, load
from adapt.errors import AdaptError
from adapt.version import __version__

__all__ = ["AdaptError", "FewShotAdapter", "FittedTask", "__version__", "load"]
