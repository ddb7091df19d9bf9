"""Numeric precision: layers may compute in 16 bits; parameters and losses stay in float32."""

from __future__ import annotations

import logging

import torch

from vlray.cluster.tf32 import set_tf32
from vlray.config.training import Precision

log = logging.getLogger("vlray.models")

AMPERE = (8, 0)
"""Lowest compute capability of NVIDIA GPUs that support TF32."""


def set_precision(precision: Precision, device: torch.device) -> None:
    """Set what holds for the whole process, and also for backward passes: ``tf32`` or full float32.

    Logs a warning if the precision is ``tf32`` and the device does not support it.
    """
    set_tf32(precision == "tf32")
    if precision != "tf32":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        log.warning(
            "precision=tf32 has no effect on this %s: it needs an NVIDIA GPU, A100 or newer",
            "GPU" if device.type == "cuda" else "CPU",
        )


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return a context for forward passes: with ``bf16`` and ``fp16``, layers compute in 16 bits.

    Training in ``fp16`` also needs a `torch.amp.GradScaler`. For ``tf32``, see `set_precision`.
    """
    # The dtype has no effect unless autocast is enabled.
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision in ("bf16", "fp16"))
