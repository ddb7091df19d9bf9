"""A detector's device, and its batch size on that device."""

from __future__ import annotations

import torch

from vlray.cluster.gpus import REMEDY, describe_build, usable_gpus
from vlray.cluster.tf32 import set_tf32
from vlray.config.detector import DetectorSection


def device_of(options: DetectorSection) -> torch.device:
    """Return the device that ``options.device`` selects in this process.

    Raises:
        ValueError: This process has no CUDA device, although ``device=cuda`` or Ray assigned a GPU
            to it.
    """
    if options.device == "cpu":
        return torch.device("cpu")
    try:
        gpus = usable_gpus()
    except ValueError as error:
        raise ValueError(f"{error}; {REMEDY}; --detector.device cpu computes on the CPU") from error
    if options.device == "cuda" and not gpus:
        raise ValueError(
            "device=cuda, but this process has no CUDA device; assign a GPU to the detector's "
            f"actors, or set device=auto or device=cpu ({describe_build()})"
        )
    return torch.device("cuda" if gpus else "cpu")


def open_device(options: DetectorSection) -> torch.device:
    """Return the detector's device, and make float32 full float32 in this process.

    By default, torch rounds the inputs of convolutions to TF32 on NVIDIA GPUs.

    Raises:
        ValueError: See `device_of`.
    """
    set_tf32(False)
    return device_of(options)


def batch_size_of(options: DetectorSection) -> int:
    """Return the number of images per forward pass; on a CPU, larger batches are not faster."""
    return options.batch_size or (8 if device_of(options).type == "cuda" else 1)
