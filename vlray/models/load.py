"""Loading of models: import a class by name, build a model, load a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlray.config.model import ModelSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.checksums import verify
from vlray.models.conform import HOW_TO, build_model, check_class, new_parameters
from vlray.models.names import named
from vlray.models.protocol import Goal
from vlray.models.standardize import FILE as STANDARDIZE
from vlray.settings import plugins
from vlray.settings.options import nearest
from vlray.settings.state import stored_models

__all__ = ["confirmed_name", "is_built_in", "load_checkpoint", "load_model", "model_class"]

PRESETS = {
    "lxmert": "vlray.models.lxmert:Lxmert",
    "visualbert": "vlray.models.visualbert:VisualBert",
}
"""Built-in model classes for fine-tuning."""
PRETRAINING = {
    "lxmert": "vlray.models.lxmert_pretraining:LxmertPretraining",
    "visualbert": "vlray.models.visualbert_pretraining:VisualBertPretraining",
}
"""Built-in model classes for pretraining and matching."""


def model_class(options: ModelSection, goal: Goal) -> Any:
    """Import the model class for a name and goal.

    Returns:
        A class that follows `VisionLanguageModel`.

    Raises:
        ValueError: No model has this name, or its class does not follow ``protocol.py``.
    """
    target = _target(named(options).name, goal)
    cls = plugins.load(target)
    check_class(cls, target)
    return cls


def is_built_in(options: ModelSection, goal: Goal) -> bool:
    """Return whether a model is one of vlray's own, not a class of the user's."""
    built_in = {*PRESETS.values(), *PRETRAINING.values()}
    return _target(named(options).name, goal) in built_in


def load_model(options: ModelSection, goal: Goal) -> Any:
    """Build a model for a goal, on the CPU.

    Returns:
        A `VisionLanguageModel` that is a ``torch.nn.Module``.

    Raises:
        ValueError: No model has this name, its class does not follow ``protocol.py``, the model
            cannot learn the goal, or the weights do not fit or are damaged.
    """
    options = named(options)
    if options.weights:
        verify(Path(options.weights).expanduser())
    return build_model(model_class(options, goal), options, goal, _target(options.name, goal))


def load_checkpoint(folder: Path, model: str = "") -> tuple[Any, CheckpointInfo]:
    """Rebuild the model of a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        model: The user's own model class (``module:Class`` or ``file.py:Class``), required if the
            checkpoint has one. The class that the checkpoint names is never imported.

    Returns:
        The model, and the description of the checkpoint.

    Raises:
        FileNotFoundError: The folder is not a checkpoint.
        ValueError: A file is damaged, the checkpoint has a model class that ``model`` does not
            name, or the files do not match ``vlray.json``: a tensor is missing or unexpected, or
            has the wrong shape.
    """
    info = CheckpointInfo.read(folder)
    # ``answers`` describes the head of the weights before training, not the saved head.
    update = {"weights": str(folder), "answers": "", "name": confirmed_name(info, folder, model)}
    network = load_model(info.model.model_copy(update=update), info.goal)
    # Parameters that the files do not fill would silently stay random.
    if new := new_parameters(network):
        raise ValueError(
            f"the checkpoint {folder} does not fill {len(new)} tensors of {info.model.name}: "
            f"{', '.join(sorted(new)[:6])}; its files were changed, or are not all from the same "
            "run"
        )
    # Without the statistics, the model would silently read vectors on a different scale.
    if info.model.standardize and not network.standardize.is_measured:
        raise ValueError(
            f"the checkpoint {folder} has no {STANDARDIZE}, which model.standardize requires; "
            "its files were changed, or are not all from the same run"
        )
    return network, info


def confirmed_name(info: CheckpointInfo, folder: Path, model: str = "") -> str:
    """Return the name of a checkpoint's model, if files may decide it or the user confirms it.

    Args:
        info: Description of the checkpoint.
        folder: Its folder, for the error message.
        model: The model class that the user named; empty: none.

    Raises:
        ValueError: The checkpoint has a model class, and ``model`` is not this class.
    """
    return plugins.confirmed(info.model.name, str(folder), model, "--model-name")


def _target(name: str, goal: Goal) -> str:
    """Resolve a model name to ``module:Class`` or ``file.py:Class``."""
    presets = PRETRAINING if goal.objective in ("pretraining", "matching") else PRESETS
    if name in presets:
        return presets[name]
    if ":" in name:
        return name
    if name.endswith(".py"):
        raise ValueError(f"{name!r} is a file; name its class too, as in {name}:Model")
    # Users store names for their own classes with `vlray env set models.NAME`.
    stored = stored_models()
    model = stored.get(name)
    if model is None:
        close = nearest(name, [*presets, *stored])
        names = ", ".join([*presets, *stored])
        raise ValueError(
            f"there is no model {name!r}{f' (did you mean {close!r}?)' if close else ''}; pass one "
            f"of {names}, or your own class: module:Class or path/to/file.py:Class. {HOW_TO}"
        )
    if model in presets:
        return presets[model]
    if ":" in model:
        return model
    raise ValueError(
        f"the stored model {name!r} is {model!r}, which is not a model; change it with "
        f"`vlray env set models.{name} ...`: {', '.join(presets)} or your own class"
    )
