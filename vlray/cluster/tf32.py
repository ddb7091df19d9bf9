"""TF32, which rounds the inputs of float32 products to 10 bits on NVIDIA GPUs since Ampere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 in this process: matrix products and convolutions, in both directions.

    By default, torch allows it in convolutions.
    """
    # The older flags come first: torch's compiler still reads them, and torch raises an error if
    # they contradict the current ones.
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    backends: Any = torch.backends  # torch's annotations lack these attributes
    for operation in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        operation.fp32_precision = "tf32" if allowed else "ieee"


def is_tf32() -> bool:
    """Return whether matrix products may use TF32."""
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 within this context, for the parts of a network that differ in it."""
    before = is_tf32()
    if before == allowed:
        yield
        return
    set_tf32(allowed)
    try:
        yield
    finally:
        set_tf32(before)
