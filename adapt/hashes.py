"""What tensors are hashed by."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["bytes_of", "sha256_of"]


def bytes_of(tensor: Tensor) -> bytes:
    """Its numbers, whatever the device and the layout in memory."""
    value = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return value.reshape(-1).view(torch.uint8).numpy().tobytes()  # numpy does not know bfloat16


def sha256_of(tensors: Mapping[str, Tensor], texts: Mapping[str, str] | None = None) -> str:
    """Of names, dtypes, shapes and bytes, and of the texts (hex)."""
    digest = hashlib.sha256(json.dumps(texts or {}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()
