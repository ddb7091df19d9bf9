"""Checks of the installation and of the machine, each with a way out."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from vlray.cluster.gpus import driver_version
from vlray.config.doctor import DoctorConfig
from vlray.installation import detectron2
from vlray.installation.versions import DETECTRON2, version_of

State = Literal["ok", "note", "problem"]

FIX = "vlray doctor --fix"
MATCHING = "install torch and torchvision of one release with the command that pytorch.org gives"
DRIVERS = {11: 450, 12: 525, 13: 580}
"""Oldest NVIDIA driver of each CUDA version, on Linux (NVIDIA's CUDA compatibility guide)."""

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
UV_RECEIPT = "uv-receipt.toml"
"""File in the environments of ``uv tool install``."""

UPGRADE = "uv tool upgrade"
FREE_GB = 5
"""Free space below which a check is a note. Ray stops writing at 95 % use of a disk."""


@dataclass(frozen=True)
class Check:
    """Result of a check."""

    name: str
    state: State
    detail: str
    """What was found."""

    remedy: str = ""
    """What to do, as a sentence or a command; '' if there is nothing to do."""


def run_checks(config: DoctorConfig) -> list[Check]:
    """Run all checks; a check that fails itself is reported as a problem."""
    checks: dict[str, Callable[[], Check]] = {
        "Python": check_python,
        "torch": check_torch,
        "torchvision": check_torchvision,
        "Detectron2": check_detectron2,
        "Ray": check_ray,
        "Chromium": check_chromium,
        "disk": lambda: check_disk(config.env.runs_dir.absolute().parent),
        "cache": lambda: check_cache(config.data.cache_folder()),
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's about an old driver: the check tells more
            return check()
    except Exception as error:  # a broken package may raise anything while it is imported
        message = " ".join(str(error).split())[:200]
        return Check(
            name,
            "problem",
            f"cannot be used: {type(error).__name__}: {message}",
            f"install it again into {sys.prefix}, or make a new virtual environment",
        )


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> Check:
    """Check the version of Python."""
    detail = f"{platform.python_version()} in {sys.prefix}"
    if (3, 11) <= version < (3, 14):
        return Check("Python", "ok", detail)
    return Check("Python", "problem", detail, "make an environment of Python 3.11, 3.12 or 3.13")


def check_torch() -> Check:
    """Check torch, and its CUDA against the driver."""
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return judge_torch(torch.__version__, torch.version.cuda or "", driver_version(), names)


def judge_torch(version: str, cuda: str, driver: str, gpus: list[str]) -> Check:
    """Judge a build of torch on a machine.

    Args:
        version: Version of torch.
        cuda: Version of CUDA that torch is built for; '' for another build.
        driver: Version of NVIDIA's driver; '' if there is none.
        gpus: Names of the GPUs that torch can use.
    """
    build = f"{version} for CUDA {cuda}" if cuda else f"{version} without CUDA"
    if gpus:
        return Check("torch", "ok", f"{build}, driver {driver or 'unknown'}: {', '.join(gpus)}")
    if not driver:
        return Check("torch", "ok", f"{build}; no NVIDIA driver, so detectors run on the CPU")
    detail = f"{build}, NVIDIA driver {driver}, no usable GPU"
    if not cuda:
        command = "install a build of torch and torchvision for CUDA, as pytorch.org says"
        return Check("torch", "note", detail, command)
    oldest = DRIVERS.get(int(cuda.partition(".")[0]), 0)
    if int(driver.partition(".")[0]) < oldest:
        older = [major for major, least in DRIVERS.items() if least <= int(driver.split(".")[0])]
        build = f"a build of torch for CUDA {max(older)}" if older else "torch's build for CPUs"
        remedy = f"update the driver to {oldest} or newer, or install {build} (pytorch.org)"
        return Check("torch", "problem", f"{detail}: CUDA {cuda} needs driver {oldest}", remedy)
    remedy = "look at CUDA_VISIBLE_DEVICES, and whether the container was given GPUs (nvidia-smi)"
    return Check("torch", "note", detail, remedy)


def check_torchvision() -> Check:
    """Check that torchvision's compiled operations work with this torch."""
    import torch

    try:
        torchvision = import_module("torchvision")
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        detail = f"{version_of('torchvision') or 'missing'}: {' '.join(str(error).split())[:120]}"
        return Check("torchvision", "problem", detail, MATCHING)
    return Check("torchvision", "ok", str(torchvision.__version__))


def check_detectron2() -> Check:
    """Check which Detectron2 is installed, and that vlray can import it."""
    spec = find_spec("detectron2")
    # `uv tool upgrade` removes what it has not installed itself, even if nothing is newer.
    is_tool = Path(sys.prefix, UV_RECEIPT).is_file()
    if spec is None:
        cause = f" ({UPGRADE} removes it)" if is_tool else ""
        return Check("Detectron2", "problem", f"missing: no detector can run{cause}", FIX)
    if not detectron2.is_complete():
        detail = "pkg_resources, which it imports, is missing (setuptools 81 or newer)"
        return Check("Detectron2", "problem", detail, FIX)
    import_module("vlray.detect.d2.compat")  # raises the reason if it cannot be imported
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    # Not by find_spec, because `compat` puts a placeholder in the place of a missing extension.
    is_compiled = any(path for folder in folders for path in folder.glob("_C.*"))
    version = version_of(*DETECTRON2) or "of unknown version"
    kind = "official build" if is_compiled else f"Python source (wheel of {detectron2.PACKAGE})"
    fate = f"; {UPGRADE} removes it: run {FIX} after each upgrade" if is_tool else ""
    return Check("Detectron2", "ok", f"{version}, {kind}{fate}")


def check_ray() -> Check:
    """Check Ray, and whether commands would use a cluster that runs already."""
    import ray

    from vlray.cluster.connection import running_here

    address = os.environ.get("RAY_ADDRESS", "")
    where = f"RAY_ADDRESS={address}" if address else "on this machine" if running_here() else ""
    if not where:
        return Check("Ray", "ok", f"{ray.__version__}, no running cluster")
    detail = f"{ray.__version__}, a cluster runs ({where}), which extract uses"
    return Check("Ray", "note", detail, "--cluster.address local starts a Ray of its own instead")


def check_chromium() -> Check:
    """Check for a Chromium, which only the tests of pages start."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path:
        return Check("Chromium", "ok", path)
    detail = "not on PATH; only the tests of pages need it, any browser shows the pages"
    return Check("Chromium", "note", detail, "make browser, in a checkout")


def check_disk(folder: Path) -> Check:
    """Check the free space for outputs, temporary files and Ray's object store.

    Args:
        folder: Folder of the runs, which need not exist.
    """
    # The first run creates the folder; until then, its parent is on the same disk.
    while not folder.exists():
        folder = folder.parent
    folders = {"outputs": folder, "temporary files": Path(os.environ.get("TMPDIR") or "/tmp")}
    if Path("/dev/shm").is_dir():
        folders["shared memory"] = Path("/dev/shm")
    free = {name: shutil.disk_usage(path).free / 2**30 for name, path in folders.items()}
    detail = ", ".join(
        f"{gb:.1f} GB free for {name} ({folders[name]})" for name, gb in free.items()
    )
    # Ray wants only a part of /dev/shm; a container without --shm-size has 64 MB.
    low = [name for name, gb in free.items() if gb < (1 if name == "shared memory" else FREE_GB)]
    if not low:
        return Check("disk", "ok", detail)
    remedy = f"free some space for {' and '.join(low)}"
    if "shared memory" in low:
        remedy += "; start a container with --shm-size 4g"
    return Check("disk", "note", detail, remedy)


def check_cache(folder: Path) -> Check:
    """Check that the cache of derived files can be written, and measure it."""
    parent = folder
    # As for the disk: the cache may not exist yet.
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        remedy = "vlray env set data.cache_dir FOLDER, with a folder that you may write to"
        return Check("cache", "problem", f"{folder} cannot be written", remedy)
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    remedy = f"it may be deleted while no command runs: rm -r {folder}" if size > 2**30 else ""
    return Check("cache", "note" if remedy else "ok", f"{size / 2**30:.2f} GB in {folder}", remedy)
