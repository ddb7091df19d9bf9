"""Where a detector runs, and how many images it takes at once there."""

from __future__ import annotations

import torch

from vlray.config.detector import DetectorSection


def device_of(options: DetectorSection) -> torch.device:
    """Give the device that ``options.device`` means in this process.

    Raises:
        ValueError: CUDA is asked for, and this process sees none.
    """
    available = torch.cuda.is_available()
    if options.device == "cuda" and not available:
        raise ValueError(
            "device=cuda, but this process sees no CUDA device; give the detector's actors a GPU, "
            "or say device=auto or device=cpu"
        )
    if options.device == "auto":
        return torch.device("cuda" if available else "cpu")
    return torch.device(options.device)


def batch_size_of(options: DetectorSection) -> int:
    """Give the images of one forward pass; one on a CPU, where more gain nothing."""
    return options.batch_size or (8 if device_of(options).type == "cuda" else 1)
