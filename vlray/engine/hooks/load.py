"""The hooks that the options of a training ask for."""

from __future__ import annotations

from collections.abc import Mapping

from vlray.config.train import TrainConfig
from vlray.engine.hooks.ema import WeightAverage
from vlray.engine.hooks.protocol import Hook, Hooks
from vlray.settings import plugins

PRESETS: Mapping[str, str] = {
    "save-on-signal": "vlray.engine.hooks.save_on_signal:SaveOnSignal",
    "trackio": "vlray.engine.hooks.trackio:Trackio",
}
"""Built-in hooks of ``--hooks``."""


def hooks_of(config: TrainConfig) -> Hooks:
    """Build the hooks of a training: those of other options, then those of ``config.hooks``.

    Raises:
        ValueError: A name is neither built in nor a class that derives from `Hook`.
    """
    hooks: dict[str, Hook] = {}
    if config.optim.ema:
        hooks["ema"] = WeightAverage(config.optim.ema)
    for name in config.hooks:
        if ":" not in name and name not in PRESETS:
            raise ValueError(
                f"hooks={name}: there is no hook of this name; built in are {', '.join(PRESETS)}, "
                "and your own are module:Class or path/to/file.py:Class"
            )
        hook_class = plugins.load(PRESETS.get(name, name))
        if not (isinstance(hook_class, type) and issubclass(hook_class, Hook)):
            raise ValueError(
                f"hooks={name} is not a class that derives from vlray.engine.hooks.protocol:Hook"
            )
        hooks[name.rpartition(":")[2]] = hook_class()
    return Hooks(hooks)
