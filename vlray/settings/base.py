"""What every command's settings have in common: their layers, their names, their YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from vlray.settings.environment import EnvironmentSection
from vlray.settings.options import ENV_PREFIX, flatten, nest, options_of


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _check_folder_name(name: str) -> str:
    if not name or name.startswith(".") or set(name) & set("/\\"):
        raise ValueError("give the name of a folder: no / or \\ in it, no dot in front")
    return name


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_commas)]
Splits = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


class Command(BaseSettings):
    """Frozen settings of one command.

    `vlray.settings.reader` reads the layers: flags, then ``VLRAY_*`` variables, ``--config`` files,
    the user's ``settings.yaml`` and the defaults. The constructor reads none of them: options that
    it does not get have their defaults, so the same code does the same wherever it runs.
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
    """Its name: the module ``vlray.<command>`` runs it."""

    positionals: ClassVar[dict[str, str]] = {}
    """Arguments without a flag, in their order, and the option that each of them sets."""

    aliases: ClassVar[dict[str, str]] = {}
    """Further names of flags, and the option that each of them sets."""

    examples: ClassVar[tuple[str, ...]] = ()
    """Arguments that the help shows."""

    notes: ClassVar[str] = ""
    """What the help says below the options, as it is."""

    config: Paths = ()
    """YAML files of settings, a later one over an earlier one; repeat the flag or list them."""

    project: Annotated[str, AfterValidator(_check_folder_name)] = "default"
    """Name under which the runs that belong together are kept."""

    env: EnvironmentSection = EnvironmentSection()

    @classmethod
    def rewrite_args(cls, args: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Return the arguments to parse, and options that are set without a flag.

        Raises:
            ValueError: The arguments do not have the form that the command needs.
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
        """Restrict the constructor to its arguments; the reader reads the other sources."""
        return (init_settings,)

    def resolved(self) -> dict[str, Any]:
        """Give all settings in plain types; ``--config`` is left out, its values are in here."""
        return self.model_dump(mode="json", exclude={"config"})

    def changed(self) -> dict[str, Any]:
        """Give those of ``resolved`` that are not the defaults."""
        defaults = {path: field.default for path, field in options_of(type(self)).items()}
        given = flatten(self.model_dump(exclude={"config"}))
        plain = flatten(self.resolved())
        missing = object()
        return nest(
            {path: plain[path] for path in given if given[path] != defaults.get(path, missing)}
        )
