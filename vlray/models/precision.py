"""In which numbers a model computes: 16 bits for the layers, 32 for parameters and losses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vlray.config.training import Precision

log = logging.getLogger("vlray.models")

AMPERE = (8, 0)
"""The compute capability of NVIDIA's first GPUs with TF32."""


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision while it lasts.

    ``bf16`` and ``fp16`` are torch's autocast; ``tf32`` lets an NVIDIA GPU round what it
    multiplies. Gradients of ``fp16`` want a `torch.amp.GradScaler`.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    try:
        with torch.autocast(device.type, dtype, enabled=precision in ("bf16", "fp16")):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def warn_without_effect(precision: Precision, device: torch.device) -> None:
    """Say that ``tf32`` changes nothing where there is no GPU that knows it."""
    if precision != "tf32":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        log.warning(
            "precision=tf32 has no effect on this %s: NVIDIA's GPUs know it since A100",
            "GPU" if device.type == "cuda" else "CPU",
        )
