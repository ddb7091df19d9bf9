"""The GPU that this process may use, and why torch cannot use it.

Imports torch and Ray only where they are needed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DRIVER_FILE = Path("/proc/driver/nvidia/version")
REMEDY = (
    "update the driver, or install a build of torch for it (`vlray doctor` on that machine says "
    "which)"
)
"""What to do if torch cannot use a GPU that is there."""


def assigned_gpus() -> list[str] | None:
    """Return the GPUs that Ray assigned to this process; None if this is no worker of Ray.

    Ray 2.60 hides the other GPUs from a worker that has some, but leaves all of them visible to a
    worker without any.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    # The public functions that tell a worker from a driver log a warning in a driver.
    if context.worker.mode != ray.WORKER_MODE:
        return None
    ids: list[str] = context.get_accelerator_ids().get("GPU", [])
    return ids


def usable_gpus() -> int:
    """Return the number of GPUs that torch can use in this process.

    Raises:
        ValueError: Ray assigned a GPU to this process, but torch cannot use it. Without this error,
            the process would hold a GPU and compute on the CPU.
    """
    assigned = assigned_gpus()
    if assigned == []:
        return 0
    import torch

    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if assigned and not visible:
        raise ValueError(
            f"Ray assigned GPU {', '.join(assigned)} to this process, but torch cannot use it: "
            f"{describe_build()}"
        )
    return visible


def describe_build() -> str:
    """Return the versions of torch, of its CUDA and of NVIDIA's driver."""
    import torch

    cuda = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return f"torch {torch.__version__} is built {cuda}, NVIDIA driver {driver_version() or 'none'}"


def driver_version(path: Path = DRIVER_FILE) -> str:
    """Return the version of NVIDIA's kernel driver, such as ``580.65.06``; '' without one."""
    if not path.is_file():
        return ""
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", path.read_text(errors="replace"))
    return match[1] if match else ""
