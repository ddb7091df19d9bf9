"""A detector's device, and its batch size on that device."""

from __future__ import annotations

import torch

from vlray.config.detector import DetectorSection


def device_of(options: DetectorSection) -> torch.device:
    """Return the device that ``options.device`` selects in this process.

    Raises:
        ValueError: ``device=cuda``, but this process sees no CUDA device.
    """
    available = torch.cuda.is_available()
    if options.device == "cuda" and not available:
        raise ValueError(
            "device=cuda, but this process has no CUDA device; assign a GPU to the detector's "
            "actors, or set device=auto or device=cpu"
        )
    if options.device == "auto":
        return torch.device("cuda" if available else "cpu")
    return torch.device(options.device)


def batch_size_of(options: DetectorSection) -> int:
    """Return the number of images per forward pass; on a CPU, larger batches are not faster."""
    return options.batch_size or (8 if device_of(options).type == "cuda" else 1)
