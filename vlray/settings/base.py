"""Base class for the settings of every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from vlray.settings.environment import EnvironmentSection
from vlray.settings.options import ENV_PREFIX, FLAGS_ONLY, flatten, nest, options_of


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _check_folder_name(name: str) -> str:
    if not name or name.startswith(".") or set(name) & set("/\\"):
        raise ValueError("use a plain folder name, without / or \\ and without a leading dot")
    return name


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_commas)]
# Not for splits only: any option that takes several names or paths.
Splits = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


class ActionHelp(NamedTuple):
    """Help of one action of a command, such as ``check`` of ``vlray datasets``."""

    usage: str
    description: str
    options: tuple[str, ...]
    """Paths of the options that the action reads, such as ``data.annotations``."""
    examples: tuple[str, ...]
    notes: str = ""


class Command(BaseSettings):
    """Frozen settings of one command.

    `vlray.settings.reader` merges the layers: flags, then ``VLRAY_*`` variables, ``--config``
    files, the user's ``settings.yaml`` and the defaults. The constructor uses its arguments and the
    defaults only, so that Python code behaves the same on every machine.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_use_class_docs_for_groups=True,
    )

    command: ClassVar[str]
    """Name of the command; the module ``vlray.<command>`` runs it."""

    positionals: ClassVar[dict[str, str]] = {}
    """Positional arguments in order, each mapped to the option that it sets."""

    aliases: ClassVar[dict[str, str]] = {}
    """Alternative names of flags, each mapped to the option that it sets."""

    examples: ClassVar[tuple[str, ...]] = ()
    """Command lines that the help shows as examples; the short help shows the first three."""

    common: ClassVar[tuple[str, ...]] = ()
    """Paths of the options in the short help. Empty: all, except those that every command has."""

    actions: ClassVar[dict[str, ActionHelp]] = {}
    """Help of each action, keyed by the word that selects it. Empty: the command has no actions."""

    notes: ClassVar[str] = ""
    """Preformatted text below the options in the help."""

    config: Paths = ()
    """YAML files with options; later files override earlier ones. Repeat the flag or list them."""

    trust_code: bool = False
    """Whether to import classes that only a file (``--config``, a pipeline, a dataset) names.
    Without it, vlray runs your own code only if a flag, a variable or ``vlray env set`` names
    it."""

    project: Annotated[str, AfterValidator(_check_folder_name)] = "default"
    """Project name; the runs of a project share one folder in ``env.runs_dir``."""

    env: EnvironmentSection = EnvironmentSection()

    @classmethod
    def rewrite_args(cls, args: list[str]) -> tuple[list[str], dict[str, object]]:
        """Return the arguments left to parse, and the options that the command sets itself.

        Raises:
            ValueError: The arguments do not have the form that the command expects.
        """
        return args, {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Restrict the constructor to its arguments; `reader` reads the other sources."""
        return (init_settings,)

    def resolved(self) -> dict[str, Any]:
        """Return all settings as plain types; ``config`` files are replaced by their contents."""
        return self.model_dump(mode="json", exclude={*FLAGS_ONLY})

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, as plain types."""
        defaults = {path: field.default for path, field in options_of(type(self)).items()}
        # Compare Python values, because a default has not been converted to plain types.
        values = flatten(self.model_dump(exclude={*FLAGS_ONLY}))
        plain = flatten(self.resolved())
        missing = object()  # entries of mappings have no default
        return nest(
            {path: plain[path] for path in values if values[path] != defaults.get(path, missing)}
        )
