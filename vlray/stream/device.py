"""What to do on the device after a detector has raised: free its memory, and find out what broke.

Does not import torch, which a user's detector may not need.
"""

from __future__ import annotations

import gc
import sys
import traceback

from vlray.cluster.expendable import ChildError


class DeviceError(Exception):
    """Raised when no work is possible on this process's GPU any more, whatever the image.

    After an illegal memory access, an uncorrectable memory error or the loss of the GPU, every
    further call of CUDA in the process fails.
    """


def release(error: BaseException) -> None:
    """Free the memory of a failed forward pass, whose tensors the error's traceback holds."""
    chained: BaseException | None = error
    seen: set[int] = set()
    while chained is not None and id(chained) not in seen:
        seen.add(id(chained))
        traceback.clear_frames(chained.__traceback__)
        chained = chained.__cause__ or chained.__context__
    free_memory()


def free_memory() -> None:
    """Release the memory that torch caches on the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def check_device() -> None:
    """Check whether this process can still use its GPU, if it has used one.

    Raises:
        DeviceError: The GPU's context is broken.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise DeviceError(" ".join(str(error).split("\n")[0].split())) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a detector raised because the GPU has too little memory for the batch."""
    kind = error.kind if isinstance(error, ChildError) else type(error).__name__
    return kind == "OutOfMemoryError"
