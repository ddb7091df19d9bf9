"""Detection of torch's out-of-memory errors on GPU and CPU."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that torch could not allocate memory on a GPU or the CPU."""
    # On the CPU, torch raises a plain RuntimeError, which only its message identifies.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
