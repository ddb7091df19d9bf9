"""Table of the commands that have options.

Error messages use the table to name the command to which an unknown option belongs.
"""

from __future__ import annotations

from importlib import import_module

from vlray.settings.base import Command
from vlray.settings.options import Path, find_option, options_of

# As text: a settings class is imported only when its command is used or named.
COMMANDS = {
    "extract": "vlray.config.extract:ExtractConfig",
    "view": "vlray.config.view:ViewConfig",
    "convert": "vlray.config.convert:ConvertConfig",
    "compare": "vlray.config.compare:CompareConfig",
    "datasets": "vlray.config.datasets:DatasetsConfig",
    "train": "vlray.config.train:TrainConfig",
    "test": "vlray.config.test:TestConfig",
    "export": "vlray.config.export:ExportConfig",
    "tune": "vlray.config.tune:TuneConfig",
    "pipeline": "vlray.config.pipeline:PipelineConfig",
    "logs": "vlray.config.logs:LogsConfig",
    "configs": "vlray.config.configs:ConfigsConfig",
    "doctor": "vlray.config.doctor:DoctorConfig",
}


def settings_of(command: str) -> type[Command]:
    """Import the settings class of a command."""
    module, _, name = COMMANDS[command].partition(":")
    settings: type[Command] = getattr(import_module(module), name)
    return settings


def commands_with(path: Path, shortcut: bool = False) -> list[str]:
    """Return the names of the commands that have an option.

    Args:
        path: Path of the option.
        shortcut: Whether ``path`` may also be a short name, as in flags.
    """
    commands = []
    for command in COMMANDS:
        options = options_of(settings_of(command))
        leaves = [option[-1] for option in options]
        # A short name is valid only if exactly one option of the command ends in it.
        if find_option(path, options) or (shortcut and leaves.count(".".join(path)) == 1):
            commands.append(command)
    return commands
