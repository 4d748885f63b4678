"""Errors of forward mode in plain words: which operation, and what to do."""

import re

from adapt.errors import AdaptError
from adapt.forward.fast import Unsupported

__all__ = ["FIXES", "explain"]

#: What is found in torch's message or the operation's name → what to do.
FIXES = {
    "random": "f is random, and so has no derivative: switch dropout off with backbone.eval()",
    "dropout": "f is random, and so has no derivative: switch dropout off with backbone.eval()",
    "cdist": "write the squared Euclidean distance with a matrix product: |a|² − 2 a·b + |b|²",
    "embedding_bag": "use an embedding followed by a sum or mean",
    "batch_norm": "it has batch statistics: call backbone.eval(), or adapt.backbones.freeze_batch_norm",
    "running_mean": "it has batch statistics: call backbone.eval(), or adapt.backbones.freeze_batch_norm",
    "setup_context": "give the autograd.Function a setup_context and a jvp static method",
    "jvp": "give the autograd.Function a jvp static method",
    "vmap": "give the autograd.Function generate_vmap_rule = True or a vmap static method",
}
REMEDY = "write it with operators that have a forward derivative, or adapt with method=backprop"


def explain(error: Exception, refusal: Unsupported | None) -> AdaptError:
    """One error for what torch said (``error``) after the fast engine had refused (``refusal``)."""
    text = str(error).split("\n")[0]
    named = re.search(r"forward AD with (\w+)", text)
    operation = refusal.operation if refusal else named.group(1) if named else "an operation of the model"
    fix = next((fix for key, fix in FIXES.items() if key in f"{operation} {text}"), REMEDY)
    return AdaptError(f"{operation} cannot be differentiated forward ({text}): {fix}")
