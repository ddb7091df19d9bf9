"""Whether a model is what ``protocol.py`` asks for."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from vlray.config.model import ModelSection
from vlray.models.protocol import Goal

HOW_TO = """A model is a class like this (vlray/models/protocol.py says it in full):

    from torch import nn
    from vlray.models.protocol import ModelOutputs

    class Mine(nn.Module):
        def __init__(self, options, goal): ...
        @classmethod
        def loader_defaults(cls, options, goal): return {"boxes": "xyxy"}
        def forward(self, batch, *, attention=False): return ModelOutputs(losses, scores)
        def save(self, folder): ..."""


def check_class(cls: Any, target: str) -> None:
    """Check what can be checked of a class.

    Raises:
        ValueError: It is none, or lacks a method; says which.
    """
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise ValueError(f"{target} is {cls!r}, not a class of torch.nn.Module. {HOW_TO}")
    lacks = [name for name in ("loader_defaults", "save") if not callable(getattr(cls, name, None))]
    if cls.forward is nn.Module.forward:
        lacks.append("forward")
    if lacks:
        raise ValueError(f"{target} has no method {', '.join(lacks)}. {HOW_TO}")
    found: Any = cls
    _check_takes(cls, target, "it", ("options", "goal"))
    _check_takes(found.loader_defaults, target, "loader_defaults", ("options", "goal"))
    _check_takes(cls.forward, target, "forward", ("self", "batch"), {"attention": False})
    _check_takes(found.save, target, "save", ("self", "folder"))


def build_model(cls: Any, options: ModelSection, goal: Goal, target: str) -> Any:
    """Make an instance, and check its optional method.

    Raises:
        ValueError: As its own `__init__` says, or ``new_parameters`` names what it does not have.
    """
    model = cls(options, goal)
    strange = set(new_parameters(model)) - {name for name, _ in model.named_parameters()}
    if strange:
        raise ValueError(
            f"{target}: new_parameters names {', '.join(sorted(strange)[:3])}, which are not among "
            f"its named_parameters. {HOW_TO}"
        )
    return model


def new_parameters(model: Any) -> frozenset[str]:
    """Name the parameters that weights did not fill; none where the model does not say."""
    names: frozenset[str] = (
        model.new_parameters() if hasattr(model, "new_parameters") else frozenset()
    )
    return names


def loss_in_words(model: Any) -> str:
    """Say which loss a model has."""
    return str(model.loss_in_words()) if hasattr(model, "loss_in_words") else "the model's own"


def _check_takes(
    function: Any,
    target: str,
    name: str,
    positional: tuple[str, ...],
    named: dict[str, Any] | None = None,
) -> None:
    try:
        inspect.signature(function).bind(*positional, **(named or {}))
    except TypeError as error:
        raise ValueError(
            f"{target}: {name} does not take {', '.join([*positional, *(named or {})])} ({error}). "
            f"{HOW_TO}"
        ) from error
