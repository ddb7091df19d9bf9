"""Copies to a detector's device that do not make the host wait.

A copy from ordinary memory waits until the device has done all earlier work; one from pinned memory
does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy a writable array to a device."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def stacked(images: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Copy images of one size and type to a device, as one tensor (N, H, W, C) of their type."""
    dtype = torch.from_numpy(np.empty(0, images[0].dtype)).dtype
    shape = (len(images), *images[0].shape)
    # The images are written into the pinned memory directly, without a stack in between.
    tensor = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
    np.stack(images, out=tensor.numpy())
    return tensor.to(device, non_blocking=True)


def on_host(*columns: Tensor) -> list[np.ndarray]:
    """Copy columns of one table to the host in one transfer, as float32.

    Ids up to 2^24 and flags keep their values.
    """
    wide = [column[:, None] if column.dim() == 1 else column for column in columns]
    table = torch.cat([column.float() for column in wide], dim=1).cpu().numpy()
    ends = np.cumsum([column.shape[1] for column in wide])[:-1]
    # Copies, because a result would keep the whole table alive.
    parts = [np.ascontiguousarray(part) for part in np.split(table, ends, axis=1)]
    pairs = zip(columns, parts, strict=True)
    return [part[:, 0] if column.dim() == 1 else part for column, part in pairs]
