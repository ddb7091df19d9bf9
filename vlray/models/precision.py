"""Numeric precision: layers may compute in 16 bits; parameters and losses stay in float32."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vlray.config.training import Precision

log = logging.getLogger("vlray.models")

AMPERE = (8, 0)
"""Lowest compute capability of NVIDIA GPUs that support TF32."""


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Run the ``with`` block in a given precision.

    ``bf16`` and ``fp16`` use torch's autocast; ``tf32`` allows NVIDIA GPUs to round the inputs of
    matrix products. Training in ``fp16`` also needs a `torch.amp.GradScaler`.
    """
    # The matmul precision is a global torch setting, so it is restored afterwards.
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # The dtype has no effect unless autocast is enabled.
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    try:
        with torch.autocast(device.type, dtype, enabled=precision in ("bf16", "fp16")):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


def warn_without_effect(precision: Precision, device: torch.device) -> None:
    """Log a warning if the precision is ``tf32`` and the device does not support it."""
    if precision != "tf32":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        log.warning(
            "precision=tf32 has no effect on this %s: it needs an NVIDIA GPU, A100 or newer",
            "GPU" if device.type == "cuda" else "CPU",
        )
