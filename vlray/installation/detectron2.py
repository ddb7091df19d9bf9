"""Install the Python source of Detectron2 into the environment of this process.

Package indexes have no build of Detectron2 0.6. Its source is there as ``pb1-detectron2``, but a
plain ``pip install`` fails: the build imports torch, which an isolated build does not have, and
then compiles C++ files. The settings that avoid both stand in ``pyproject.toml``, where uv reads
them in a checkout. `build.toml` is a link to that file, and a copy of it in a wheel.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from vlray.runs.session import Failed

PACKAGE = "pb1-detectron2"
SETTINGS = Path(__file__).with_name("build.toml")


@dataclass(frozen=True)
class BuildSettings:
    """What installs Detectron2 without a compiler."""

    requirement: str
    """The package with its version, such as ``pb1-detectron2==0.6``."""

    requirements: tuple[str, ...]
    """Packages for the build and the use of Detectron2, except torch."""

    flags: tuple[str, ...]
    """Settings of the build, as flags of ``uv pip install``."""

    @classmethod
    def read(cls, path: Path = SETTINGS) -> Self:
        """Read the settings from the extra ``detectron2`` and the table ``tool.uv`` of a file."""
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        extra: list[str] = content["project"]["optional-dependencies"]["detectron2"]
        uv = content["tool"]["uv"]
        metadata = {entry["name"]: entry for entry in uv["dependency-metadata"]}[PACKAGE]
        needed = [*uv["extra-build-dependencies"][PACKAGE], *metadata["requires-dist"], *extra]
        return cls(
            requirement=next(one for one in extra if one.startswith(PACKAGE)),
            # The installed torch takes part in the build; another one would be gigabytes.
            requirements=tuple(
                dict.fromkeys(one for one in needed if not one.startswith((PACKAGE, "torch")))
            ),
            flags=tuple(
                flag
                for key, value in uv["config-settings-package"][PACKAGE].items()
                for flag in ("--config-settings-package", f"{PACKAGE}:{key}={value}")
            ),
        )


def is_complete() -> bool:
    """Return whether Detectron2 is installed, with ``pkg_resources``, which it imports."""
    invalidate_caches()
    return find_spec("detectron2") is not None and find_spec("pkg_resources") is not None


def install() -> None:
    """Build and install Detectron2; uv prints what it does.

    Raises:
        Failed: uv failed.
    """
    settings = BuildSettings.read()
    # First, because the build below runs in this environment, without one of its own.
    _uv(*settings.requirements)
    if find_spec("detectron2") is None:  # not over an official build
        isolation = ("--no-build-isolation-package", PACKAGE)
        _uv("--no-deps", *isolation, *settings.flags, settings.requirement)


def _uv(*arguments: str) -> None:
    from uv import find_uv_bin

    command = [find_uv_bin(), "pip", "install", "--python", sys.executable, *arguments]
    # In a folder of its own, because uv would read the settings of a project in this one.
    with tempfile.TemporaryDirectory(prefix="vlray-doctor-") as folder:
        status = subprocess.run(command, cwd=folder, check=False).returncode
    if status:
        raise Failed(
            f"uv could not install {arguments[-1]} into {sys.prefix}; its reason is above. "
            "This needs an environment that you may write to (python -m venv). uv reads the "
            "address of a package index from UV_DEFAULT_INDEX, not from pip's settings"
        )
