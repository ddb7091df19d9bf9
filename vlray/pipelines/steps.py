"""The steps of a pipeline: each one's settings, by its command's own rules, and what it reads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.references import References, meant, spread
from vlray.pipelines.step_files import check_files
from vlray.settings import layers, reader
from vlray.settings.base import Command
from vlray.settings.commands import settings_of
from vlray.settings.layers import Layer
from vlray.settings.options import Path, find_option, flatten, nearest, nest, options_of

OUTPUTS: dict[str, Path] = {
    "extract": ("output", "path"),
    "convert": ("output",),
    "compare": ("report",),
    "view": ("page",),
    "datasets": (),
    "train": ("output",),
    "test": ("output",),
    "tune": ("output",),
}
"""The commands that may be steps, and the option that says where each one writes."""

NEEDED: dict[str, tuple[str, ...]] = {
    "train": ("corpus", "regions"),
    "test": ("checkpoint", "corpus"),
}
"""Options that have a default only because their commands say better what is missing."""

OWN = ("project", "env")
"""Settings that all steps have from the pipeline."""

_NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        name: In the pipeline.
        config: The settings of its command.
        output: Where it writes; empty: nowhere.
        after: Names of the earlier steps whose outputs it reads.
    """

    name: str
    config: Command
    output: str
    after: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """Name of its command."""
        return self.config.command

    def reads(self) -> Iterator[tuple[Path, str]]:
        """List the texts of its settings that may be places, each with its option."""
        for path, value in flatten(self.config.resolved()).items():
            if path[0] in OWN or path == OUTPUTS[self.command]:
                continue
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and text:
                    yield path, text
                    if "=" in text:  # NAME=OUT
                        yield path, text.partition("=")[2]


def resolve(config: PipelineConfig) -> tuple[Step, ...]:
    """Settle every step, in their order.

    Raises:
        UsageError: The steps have mistakes; all of them are listed.
    """
    mistakes = [*check_files(config.config), *_check_names(config)]
    if mistakes:
        raise reader.UsageError(PipelineConfig, mistakes)
    values, given, shared = map(spread, (config.values, config.steps, config.shared))
    known: dict[str, Any] = dict(values)
    refer = References(known, given)
    steps: list[Step] = []
    for name, settings in given.items():
        try:
            step = _resolve(name, settings, shared, refer, config)
        except ValueError as error:
            mistakes += [f"step {name}: {line}" for line in error.args]
            known[name] = f"output of {name}"  # so that what refers to it is no mistake as well
            continue
        steps.append(step)
        known[name] = step.output
    if not mistakes:
        unused = [name for name in values if name not in refer.used]
        mistakes += [f"values: ${name} is in no step; {meant(name, refer.used)}" for name in unused]
        mistakes += [*_check_shared(shared, steps), *_check_places(steps)]
    mistakes += [
        f"there is no step {name}; {meant(name, given)}"
        for name in (*config.only, *config.redo)
        if name not in given
    ]
    if mistakes:
        raise reader.UsageError(PipelineConfig, mistakes)
    return tuple(_linked(step, steps) for step in steps)


def folder_of(config: PipelineConfig) -> File:
    """Say where the pipeline's own files are."""
    if config.output:
        return File(config.output).expanduser()
    return File("pipelines") / (config.config[0].stem if config.config else "pipeline")


def _check_names(config: PipelineConfig) -> Iterator[str]:
    files = ", ".join(map(str, config.config))
    if not config.steps:
        yield (
            f"{files} has no steps; give some, such as `steps: {{regions: {{command: extract, "
            "images: {root: photos/}}}`; --help shows a whole file"
            if files
            else "FILE is missing. YAML of named steps; --help shows one"
        )
    if "://" in config.output:
        yield (
            f"output is {config.output!r}: the pipeline keeps its state in a local folder; only "
            "the steps' own outputs can be URIs"
        )
    steps = spread(config.steps)
    for name in steps:
        if not _NAME.fullmatch(name):
            yield f"{name!r} is no name of a step; give letters, digits, _ and -, a letter first"
    for name in steps.keys() & config.values.keys():
        yield f"{name} is a step and one of values; give one of them another name"


def _resolve(
    name: str,
    settings: Any,
    shared: Mapping[str, Any],
    refer: References,
    config: PipelineConfig,
) -> Step:
    """Build a step's settings from all of their layers."""
    if not isinstance(settings, dict):
        raise ValueError(f"it is {settings!r}; give its command and settings, as a mapping")
    settings = dict(settings)
    cls = _class_of(settings.pop("command", None))
    files = settings.pop("config", None) or []
    files = [files] if isinstance(files, str) else files
    places = [str(_find_file(str(refer.fill(file)), config)) for file in files]
    *below, variables, _ = reader.read_layers(cls, {"config": ",".join(places) or ","}, os.environ)
    output = OUTPUTS[cls.command]
    found = [
        _without(output, below[0]),
        *below[1:],
        _layer(cls, refer.fill(_known_to(cls, shared)), "shared"),
        _layer(cls, refer.fill(settings)),
        _without(output, variables),
        _own(config),
    ]
    merged: dict[Path, Any] = {}
    for layer in found:
        merged |= layer.values
    merged.pop(("config",), None)
    if output and not merged.get(output):
        merged[output] = str(folder_of(config) / name)
    try:
        built = cls(**nest(merged))
    except ValidationError as error:
        raise ValueError(*layers.explain(cls, error.errors(include_url=False), found)) from error
    for option in NEEDED.get(cls.command, ()):
        if not getattr(built, option):
            about = " ".join((cls.model_fields[option].description or "").split())
            raise ValueError(f"{option} is not given. {about.replace('`', '')}")
    return Step(name, built, str(merged[output]) if output else "")


def _class_of(command: Any) -> type[Command]:
    names = ", ".join(OUTPUTS)
    if command is None:
        raise ValueError(f"it has no command; give one of {names}")
    if not isinstance(command, str) or command not in OUTPUTS:
        raise ValueError(f"command is {command!r}, {meant(str(command), OUTPUTS)}")
    return settings_of(command)


def _find_file(place: str, config: PipelineConfig) -> File:
    """Look for a file here, and beside the pipeline's own."""
    for folder in (File(), *(path.parent for path in config.config)):
        if (folder / place).is_file():
            return folder / place
    raise ValueError(
        f"config: there is no file {place}, here or beside the pipeline's; give a YAML file of "
        "settings"
    )


def _known_to(cls: type[Command], shared: Mapping[str, Any]) -> dict[str, Any]:
    options = options_of(cls)
    flat = flatten(shared)
    return nest({path: value for path, value in flat.items() if find_option(path, options)})


def _layer(cls: type[Command], values: Mapping[str, Any], origin: str = "") -> Layer:
    """Make a layer of settings; refuse what the command does not know."""
    options = options_of(cls)
    layer = Layer("key", flatten(values), origin)
    known: dict[Path, Any] = {}
    for path, value in layer.values.items():
        if path[0] in OWN:
            raise ValueError(
                f"{'.'.join(path)} is the pipeline's, for all steps; give it above the steps"
            )
        if find_option(path, options) is not None:
            known[path] = value
        elif not (value is None and any(option[: len(path)] == path for option in options)):
            raise ValueError(layers.describe_unknown(cls, layer, path))
    return Layer("key", known, origin)


def _without(output: Path, layer: Layer) -> Layer:
    """Leave out what is said of all commands, but can be meant of one alone."""
    values = {
        path: layer.values[path] for path in layer.values if path not in (output, ("config",))
    }
    return Layer(layer.kind, values, layer.source)


def _own(config: PipelineConfig) -> Layer:
    own = config.model_dump(mode="json", include=set(OWN))
    return Layer("key", flatten(own), "the pipeline")


def _check_shared(shared: Mapping[str, Any], steps: Sequence[Step]) -> Iterator[str]:
    classes = {type(step.config) for step in steps}
    for path in flatten(shared):
        if not any(find_option(path, options_of(cls)) for cls in classes):
            names = {".".join(option) for cls in classes for option in options_of(cls)}
            close = nearest(".".join(path), sorted(names))
            hint = f"; did you mean {close}?" if close else ""
            yield f"shared: {'.'.join(path)} is an option of no step's command{hint}"


def normal(place: str) -> str:
    """Spell a place in one way; two spellings of a URI may still be one place."""
    text = place.rstrip("/") or place
    if "://" in text:
        return text
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - as vlray.storage.files


def is_below(place: str, folder: str) -> bool:
    """Say whether a place is a folder, or in it."""
    inner, outer = normal(place), normal(folder)
    return inner == outer or inner.startswith(outer + "/")


def _check_places(steps: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(steps):
        for other in steps[:number]:
            if step.output and other.output and normal(step.output) == normal(other.output):
                yield (
                    f"the steps {other.name} and {step.name} both write to {step.output}; give "
                    "one of them another output"
                )
        for later in steps[number + 1 :]:
            if later.output and any(is_below(text, later.output) for _, text in step.reads()):
                yield (
                    f"step {step.name}: it reads {later.output}, which the later step {later.name} "
                    f"writes; put {later.name} before {step.name}"
                )


def _linked(step: Step, steps: Sequence[Step]) -> Step:
    """Say which earlier steps' outputs are read."""
    texts = [text for _, text in step.reads()]
    after = tuple(
        other.name
        for other in steps[: steps.index(step)]
        if other.output and any(is_below(text, other.output) for text in texts)
    )
    return Step(step.name, step.config, step.output, after)
