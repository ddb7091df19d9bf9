"""Tensors in weights files, read without running code from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlray.storage import hub
from vlray.storage.damage import damage_of

FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Weights files in a folder of transformers, in the order of preference."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net")
"""Keys under which training scripts save the tensors, beside an optimizer and other things."""
_MAX_WRAPPERS = 3


def read_tensors(location: str) -> dict[str, Tensor]:
    """Read the floating-point tensors of weights; the names are those in the files.

    Args:
        location: A weights file, a folder with weights in the format of transformers, or a name on
            the Hugging Face Hub.

    Raises:
        ValueError: There is no weights file, or it is damaged, holds no tensors, or would need to
            run code.
        OSError: A file cannot be read.
    """
    path = Path(location)
    if path.is_file():
        return _read_file(path)
    if path.is_dir():
        first = next((path / name for name in FILES if (path / name).is_file()), None)
        if first is None:
            # Every other name is an index of shards, which need not be mentioned.
            raise ValueError(f"the folder {location} has no weights: no {' or '.join(FILES[::2])}")
    else:
        first = hub.download(location, FILES)
    if first.suffix != ".json":
        return _read_file(first)
    with damage_of(str(first), "copy the folder again"):
        # A name with a folder could point out of this one.
        shards = sorted({Path(name).name for name in _read_index(first).values()})
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        file = path / shard if path.is_dir() else hub.download(location, [shard])
        tensors |= _read_file(file)
    return tensors


def _read_index(path: Path) -> dict[str, str]:
    return dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])


def _read_file(path: Path) -> dict[str, Tensor]:
    content: Any
    with path.open("rb") as file:
        try:
            if path.suffix == ".safetensors":
                content = load_file(path)
            else:
                # weights_only: any other pickle could run code.
                content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # on a damaged file, these readers may raise any exception
            raise _unreadable(path, error) from error
    tensors = _unwrap(content)
    if not tensors:
        raise ValueError(
            f"{path} holds no tensors by name, neither at the top nor under "
            f"{', '.join(_WRAPPERS)}; save the network's state_dict() with torch.save"
        )
    return tensors


def _unwrap(content: Any, depth: int = 0) -> dict[str, Tensor]:
    """Return the tensors of a network, which may be inside dictionaries with known keys."""
    # A dictionary can contain itself, so the depth is limited.
    if not isinstance(content, Mapping) or depth > _MAX_WRAPPERS:
        return {}
    # Parameters are dense floats; other tensors are indices, counters or masks.
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str)
        and isinstance(value, Tensor)
        and value.is_floating_point()
        and value.layout is torch.strided
    }
    inside = [_unwrap(content[name], depth + 1) for name in _WRAPPERS if name in content]
    return max([tensors, *inside], key=len)


def _unreadable(path: Path, error: Exception) -> ValueError:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code is None:
        reason = hub.first_line(error)
        return ValueError(f"{path} is not a weights file, or it is damaged ({reason})")
    return ValueError(
        f"{path} contains more than tensors ({code[1].rstrip('.')}), and vlray never runs code "
        "from weights; if you trust the file, read it yourself and save only its tensors: "
        "torch.save(model.state_dict(), 'model.pth')"
    )
