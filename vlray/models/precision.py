"""Numeric precision: layers may compute in 16 bits; parameters and losses stay in 32."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vlray.config.training import Precision

log = logging.getLogger("vlray.models")

AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs with TF32."""


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision inside the ``with`` block.

    ``bf16`` and ``fp16`` use torch's autocast; ``tf32`` allows NVIDIA GPUs to round the inputs of
    matrix products. Training in ``fp16`` also needs a `torch.amp.GradScaler`.
    """
    # A global setting of torch, so it is restored afterwards.
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    try:
        with torch.autocast(device.type, dtype, enabled=precision in ("bf16", "fp16")):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


def warn_without_effect(precision: Precision, device: torch.device) -> None:
    """Warn that ``tf32`` has no effect if the device does not support it."""
    if precision != "tf32":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        log.warning(
            "precision=tf32 has no effect on this %s: it needs an NVIDIA GPU, A100 or newer",
            "GPU" if device.type == "cuda" else "CPU",
        )
