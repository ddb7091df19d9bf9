"""Checks that a model class follows the protocol in ``protocol.py``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from vlray.config.model import ModelSection
from vlray.models.protocol import Goal

HOW_TO = """A model is a class like this (vlray/models/protocol.py has the details):

    from torch import nn
    from vlray.models.protocol import ModelOutputs

    class Mine(nn.Module):
        def __init__(self, options, goal): ...
        @classmethod
        def loader_defaults(cls, options, goal): return {"boxes": "xyxy"}
        def forward(self, batch, *, attention=False): return ModelOutputs(losses, scores)
        def save(self, folder): ..."""


def check_class(cls: object, target: str) -> None:
    """Check the methods of a model class and their signatures.

    Raises:
        ValueError: The class is not a subclass of ``torch.nn.Module``, a method is missing, or a
            method has the wrong arguments.
    """
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise ValueError(f"{target} is {cls!r}, not a class of torch.nn.Module. {HOW_TO}")
    missing = [
        name for name in ("loader_defaults", "save") if not callable(getattr(cls, name, None))
    ]
    # The forward that nn.Module defines only raises an error.
    if cls.forward is nn.Module.forward:
        missing.append("forward")
    if missing:
        raise ValueError(f"{target} has no method {', '.join(missing)}. {HOW_TO}")
    # After the check above, mypy knows only the methods of nn.Module.
    model_class: Any = cls
    _check_signature(cls, target, "the class", ("options", "goal"))
    _check_signature(model_class.loader_defaults, target, "loader_defaults", ("options", "goal"))
    _check_signature(cls.forward, target, "forward", ("self", "batch"), {"attention": False})
    _check_signature(model_class.save, target, "save", ("self", "folder"))


def build_model(cls: Any, options: ModelSection, goal: Goal, target: str) -> Any:
    """Build a model, and check the names that its optional method ``new_parameters`` returns.

    Raises:
        ValueError: The class refuses the options or the goal, or ``new_parameters`` names a
            parameter that the model does not have.
    """
    model = cls(options, goal)
    # With a misspelled name, the parameter would silently train at the wrong learning rate.
    unknown = set(new_parameters(model)) - {name for name, _ in model.named_parameters()}
    if unknown:
        raise ValueError(
            f"{target}: new_parameters names {', '.join(sorted(unknown)[:3])}, not in "
            f"named_parameters() of the model. {HOW_TO}"
        )
    return model


def new_parameters(model: object) -> frozenset[str]:
    """Return the names of the parameters that the weights did not fill.

    The result is empty if the model does not implement ``new_parameters``.
    """
    names: frozenset[str] = (
        model.new_parameters() if hasattr(model, "new_parameters") else frozenset()
    )
    return names


def loss_in_words(model: object) -> str:
    """Describe a model's loss in a few words."""
    return str(model.loss_in_words()) if hasattr(model, "loss_in_words") else "the model's own"


def _check_signature(
    function: Callable[..., object],
    target: str,
    method: str,
    positional: tuple[str, ...],
    keywords: dict[str, object] | None = None,
) -> None:
    """Raise an error if a method cannot be called with these arguments."""
    try:
        # bind() checks the arguments without calling the method; the values are placeholders.
        inspect.signature(function).bind(*positional, **(keywords or {}))
    except TypeError as error:
        raise ValueError(
            f"{target}: {method} does not accept {', '.join([*positional, *(keywords or {})])} "
            f"({error}). {HOW_TO}"
        ) from error
