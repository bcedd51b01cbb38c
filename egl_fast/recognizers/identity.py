"""The identity of a model that has no single file: a hash of its weights and settings."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn


def identity_of(module: nn.Module, settings: Any) -> str:
    """A SHA-256 of all parameters and buffers, of which ones count, and of settings.

    Args:
        module: the model. Values count, not where they are.
        settings: everything else that its outputs depend on, as plain values.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    tensors: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    for name, tensor in tensors.items():
        facts = (name, str(tensor.dtype), list(tensor.shape), tensor.requires_grad)
        digest.update(json.dumps(facts).encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()
