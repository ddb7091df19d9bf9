"""The lasting state: the user's own ``settings.yaml``, the layer above the defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def settings_path() -> Path:
    """Say where the file is (or would be): in $VLRAY_HOME, else in the user's configuration."""
    if home := os.environ.get("VLRAY_HOME"):
        return Path(home) / "settings.yaml"
    import platformdirs

    return Path(platformdirs.user_config_dir("vlray", appauthor=False)) / "settings.yaml"


def read_state() -> dict[str, Any]:
    """Read the file: options as in a ``--config`` file, and ``models``.

    Raises:
        ValueError: The file is no YAML mapping.
    """
    from vlray.config.layers import read_yaml

    path = settings_path()
    return read_yaml(path) if path.is_file() else {}


def read_settings() -> dict[str, Any]:
    """Read the options in the file."""
    return {key: value for key, value in read_state().items() if key != "models"}


def stored_models() -> dict[str, str]:
    """Read the stored models: what each name that ``detector.name`` may give stands for."""
    return dict(read_state().get("models") or {})
