"""Base class of hooks, and the list of them that the training loop calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from vlray.engine.training import Training


class Hook:
    """Extension of the training loop: override what you need.

    The loop calls each hook on every worker, in this order: `begin`; then for each step
    `wants_save` and `after_step`, and, where they are due, `after_evaluation` and `state_dict`,
    both inside of `reading`; at the end of the run `end`, also after an error.
    """

    def begin(self, training: Training) -> None:
        """Start, with the model, the optimizer and the progress; before `load_state_dict`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, in a resumed training."""

    def after_step(self, training: Training, values: Mapping[str, float]) -> None:
        """React to an optimizer step.

        Args:
            training: The training; ``training.progress.step`` steps are completed.
            values: ``loss``, its parts (``loss/NAME``), ``lr`` and ``grad_norm`` of this step, over
                all workers.
        """

    def reading(self, training: Training) -> AbstractContextManager[None]:
        """Return a context for each evaluation and checkpoint, to read other weights there."""
        return nullcontext()

    def after_evaluation(self, training: Training, metrics: dict[str, float]) -> None:
        """React to an evaluation, inside of `reading`.

        Args:
            training: The training.
            metrics: Metrics by name, the same on all workers; entries that are added (the same on
                all workers) are logged and reported, too.
        """

    def wants_save(self, training: Training) -> bool:
        """Return whether to write a checkpoint after this step; one worker's wish is enough."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the state to keep in a checkpoint, inside of `reading`: tensors and plain values.

        Only the first worker's state is kept.
        """
        return {}

    def end(self, training: Training) -> None:
        """Close what `begin` opened."""


class Hooks:
    """The hooks of a training, by name, called one after another."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self.by_name = dict(hooks)

    def begin(self, training: Training, states: Mapping[str, Any]) -> None:
        """Start all hooks, with their states by name in a resumed training."""
        for name, hook in self.by_name.items():
            hook.begin(training)
            if name in states:
                hook.load_state_dict(states[name])

    def after_step(self, training: Training, values: Mapping[str, float]) -> None:
        """Call each hook's ``after_step``."""
        for hook in self.by_name.values():
            hook.after_step(training, values)

    def reading(self, training: Training) -> AbstractContextManager[object]:
        """Enter each hook's ``reading``."""
        with ExitStack() as stack:
            for hook in self.by_name.values():
                stack.enter_context(hook.reading(training))
            return stack.pop_all()

    def after_evaluation(self, training: Training, metrics: dict[str, float]) -> None:
        """Call each hook's ``after_evaluation``."""
        for hook in self.by_name.values():
            hook.after_evaluation(training, metrics)

    def want_save(self, training: Training) -> bool:
        """Return whether any hook wants a checkpoint; all are asked."""
        wishes: Sequence[bool] = [hook.wants_save(training) for hook in self.by_name.values()]
        return any(wishes)

    def state_dict(self) -> dict[str, Any]:
        """Return the states by name, without the empty ones."""
        states = {name: hook.state_dict() for name, hook in self.by_name.items()}
        return {name: state for name, state in states.items() if state}

    def end(self, training: Training) -> None:
        """Call each hook's ``end``."""
        for hook in self.by_name.values():
            hook.end(training)
