"""List and copy the configuration files of the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import vlray.config
from vlray.config.configs import ConfigsConfig
from vlray.settings import secrets
from vlray.settings.text_table import align
from vlray.settings.wording import did_you_mean


def run(config: ConfigsConfig) -> None:
    """List or copy the files.

    Raises:
        ValueError: No file or folder has the given name.
        OSError: A file cannot be written.
    """
    files = _select(config.name)
    if config.action == "list":
        secrets.show("\n".join(align([(name, _about(path)) for name, path in files.items()])))
        return
    kept = []
    for name, path in files.items():
        copy = config.out / name
        if copy.exists() and copy.read_bytes() != path.read_bytes():
            kept.append(name)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    secrets.show(f"{len(files) - len(kept)} files are in {config.out}")
    if kept:
        secrets.show(f"kept, because they were changed there: {', '.join(kept)}")


def shipped() -> dict[str, Path]:
    """Return the files by their name below ``configs/``, such as ``view/sure.yaml``."""
    # A link to the checkout's configs/ in a checkout, a folder of copies in a wheel.
    root = (Path(vlray.config.__path__[0]) / "files").resolve()
    return {path.relative_to(root).as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


def _select(name: str) -> dict[str, Path]:
    files = shipped()
    name = name.removeprefix("configs/").rstrip("/")
    selected = {
        file: path
        for file, path in files.items()
        if not name or file == name or file.startswith(f"{name}/")
    }
    if not selected:
        hint = did_you_mean(name, files)
        raise ValueError(f"there is no file {name}; {hint}`vlray configs list` lists them")
    return selected


def _about(path: Path) -> str:
    """Return the first sentence of the comment that a file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".:")
