"""Resolve the steps of a pipeline: validate settings, set outputs, find dependencies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.paths import is_below, normal
from vlray.pipelines.references import References, expand_dotted, suggest
from vlray.pipelines.step_files import check_files
from vlray.settings import layers, reader
from vlray.settings.base import Command
from vlray.settings.code import untrusted
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
"""Commands that may be steps, and the option that sets the output of each."""

NEEDED: dict[str, tuple[str, ...]] = {
    "train": ("corpus", "regions"),
    "test": ("checkpoint", "corpus"),
}
"""Options that a step must set, although they have an (empty) default."""

PIPELINE_OPTIONS = ("project", "env", "trust_code")
"""Options that all steps take from the pipeline."""

_HOW_TO_NAME = "name it with `vlray env set models.NAME CLASS` and use NAME in the step, or "

_NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Step:
    """A step of a pipeline.

    Attributes:
        name: Name of the step.
        config: Settings of the step's command.
        output: Output folder or URI; empty: none.
        after: Names of the earlier steps whose outputs this step reads.
    """

    name: str
    config: Command
    output: str
    after: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """Name of the step's command."""
        return self.config.command

    def reads(self) -> Iterator[tuple[Path, str]]:
        """Yield each option whose value may be the path of an input, with that value."""
        for path, value in flatten(self.config.resolved()).items():
            if path[0] in PIPELINE_OPTIONS or path == OUTPUTS[self.command]:
                continue
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and text:
                    yield path, text
                    if "=" in text:  # NAME=OUT
                        yield path, text.partition("=")[2]


def resolve(config: PipelineConfig) -> tuple[Step, ...]:
    """Build and check the settings of every step, in order.

    Raises:
        UsageError: The steps have mistakes; the error lists all of them.
    """
    mistakes = [*check_files(config.config), *_check_names(config)]
    if mistakes:
        raise reader.UsageError(PipelineConfig, mistakes)
    values, raw_steps, shared = map(expand_dotted, (config.values, config.steps, config.shared))
    outputs: dict[str, object] = dict(values)
    references = References(outputs, raw_steps)
    steps: list[Step] = []
    for name, settings in raw_steps.items():
        try:
            step = _resolve(name, settings, shared, references, config)
        except ValueError as error:
            mistakes += [f"step {name}: {line}" for line in error.args]
            # A placeholder, so that references to a faulty step are not reported as mistakes.
            outputs[name] = f"output of {name}"
            continue
        steps.append(step)
        outputs[name] = step.output
    if not mistakes:
        # These checks need all steps: faulty ones would cause follow-up mistakes.
        unused = [name for name in values if name not in references.used]
        mistakes += [
            f"values: no step uses ${name}{_hint(name, references.used)}" for name in unused
        ]
        mistakes += [*_check_shared(shared, steps), *_check_outputs(steps)]
    mistakes += [
        f"unknown step {name}; {suggest(name, raw_steps)}"
        for name in (*config.only, *config.redo)
        if name not in raw_steps
    ]
    if mistakes:
        raise reader.UsageError(PipelineConfig, mistakes)
    return tuple(_linked(step, steps) for step in steps)


def folder_of(config: PipelineConfig) -> File:
    """Return the folder for the pipeline's own files."""
    if config.output:
        return File(config.output).expanduser()
    return File("pipelines") / (config.config[0].stem if config.config else "pipeline")


def _check_names(config: PipelineConfig) -> Iterator[str]:
    files = ", ".join(map(str, config.config))
    if not config.steps:
        yield (
            f"{files} defines no steps; add steps, such as `steps: "
            "{regions: {command: extract, images: {root: photos/}}}`; --help shows a "
            "complete file"
            if files
            else "FILE is missing; pass a YAML file with named steps (--help shows an example)"
        )
    if "://" in config.output:
        yield (
            f"output {config.output!r} is a URI, but a pipeline needs a local folder for its "
            "state; only the outputs of steps can be URIs"
        )
    steps = expand_dotted(config.steps)
    for name in steps:
        if not _NAME.fullmatch(name):
            yield (
                f"{name!r} is not a valid step name; start with a letter, then use letters, "
                "digits, _ and -"
            )
    for name in steps.keys() & config.values.keys():
        yield f"{name} is both a step and an entry in values; rename one of them"


def _resolve(
    name: str,
    settings: object,
    shared: Mapping[str, object],
    references: References,
    config: PipelineConfig,
) -> Step:
    """Build the settings of a step from all layers, in ascending order of precedence."""
    if not isinstance(settings, dict):
        raise ValueError(
            "a step must be a mapping with a command and its settings, but this one is "
            f"{settings!r}"
        )
    settings = dict(settings)
    cls = _class_of(settings.pop("command", None))
    files = settings.pop("config", None) or []
    files = [files] if isinstance(files, str) else files
    # "," is an empty list of files, which keeps VLRAY_CONFIG from applying to every step.
    paths = [str(_find_file(str(references.fill(file)), config)) for file in files]
    # lower: the user's settings.yaml, then the files. The flags hold only this ``config``.
    *lower, variables, _ = reader.read_layers(cls, {"config": ",".join(paths) or ","}, os.environ)
    output = OUTPUTS[cls.command]
    all_layers = [
        _without_output(output, lower[0]),
        *lower[1:],
        _layer(cls, references.fill(_options_of(cls, shared)), "shared"),
        _layer(cls, references.fill(settings)),
        _without_output(output, variables),
        _pipeline_layer(config),
    ]
    merged: dict[Path, object] = {}
    for layer in all_layers:
        merged |= layer.values
    # The settings in these files are already part of the layers.
    merged.pop(("config",), None)
    if output and not merged.get(output):
        merged[output] = str(folder_of(config) / name)
    try:
        built = cls(**nest(merged))
    except ValidationError as error:
        raise ValueError(
            *layers.explain(cls, error.errors(include_url=False), all_layers)
        ) from error
    if not config.trust_code and (messages := list(untrusted(cls, all_layers, _HOW_TO_NAME))):
        raise ValueError(*messages)
    for option in NEEDED.get(cls.command, ()):
        if not getattr(built, option):
            about = " ".join((cls.model_fields[option].description or "").split())
            raise ValueError(f"{option} is missing. {about.replace('`', '')}")
    return Step(name, built, str(merged[output]) if output else "")


def _class_of(command: object) -> type[Command]:
    names = ", ".join(OUTPUTS)
    if command is None:
        raise ValueError(f"no command; choose from: {names}")
    if not isinstance(command, str) or command not in OUTPUTS:
        raise ValueError(f"unknown command {command!r}; {suggest(str(command), OUTPUTS)}")
    return settings_of(command)


def _find_file(name: str, config: PipelineConfig) -> File:
    """Find a file in the working directory or beside the pipeline's files."""
    for folder in (File(), *(path.parent for path in config.config)):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"config: {name} does not exist in the working directory or beside the pipeline's file; "
        "set it to a YAML file of settings"
    )


def _options_of(cls: type[Command], shared: Mapping[str, object]) -> dict[str, Any]:
    """Select the shared settings that a command has options for."""
    options = options_of(cls)
    flat = flatten(shared)
    return nest({path: value for path, value in flat.items() if find_option(path, options)})


def _layer(cls: type[Command], values: Mapping[str, object], origin: str = "") -> Layer:
    """Create a layer of settings; raise ValueError for options that the command does not have."""
    options = options_of(cls)
    layer = Layer("key", flatten(values), origin)
    accepted: dict[Path, object] = {}
    for path, value in layer.values.items():
        if path[0] in PIPELINE_OPTIONS:
            raise ValueError(
                f"{'.'.join(path)} applies to the whole pipeline; move it above the steps"
            )
        if find_option(path, options) is not None:
            accepted[path] = value
        # A section without entries (``images:``) parses as None, and sets nothing.
        elif not (value is None and any(option[: len(path)] == path for option in options)):
            raise ValueError(layers.describe_unknown(cls, layer, path))
    return Layer("key", accepted, origin)


def _without_output(output: Path, layer: Layer) -> Layer:
    """Remove the output and ``config`` from a layer that all steps share: each needs its own."""
    values = {
        path: layer.values[path] for path in layer.values if path not in (output, ("config",))
    }
    return replace(layer, values=values)


def _pipeline_layer(config: PipelineConfig) -> Layer:
    values = config.model_dump(mode="json", include=set(PIPELINE_OPTIONS))
    return Layer("key", flatten(values), "the pipeline")


def _check_shared(shared: Mapping[str, object], steps: Sequence[Step]) -> Iterator[str]:
    classes = {type(step.config) for step in steps}
    for path in flatten(shared):
        if not any(find_option(path, options_of(cls)) for cls in classes):
            names = {".".join(option) for cls in classes for option in options_of(cls)}
            name = ".".join(path)
            yield f"shared: no step's command has the option {name}{_hint(name, names)}"


def _hint(word: str, names: Iterable[str]) -> str:
    close = nearest(word, sorted(names))
    return f"; did you mean {close}?" if close else "; remove it"


def _check_outputs(steps: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(steps):
        for other in steps[:number]:
            if step.output and other.output and normal(step.output) == normal(other.output):
                yield (
                    f"steps {other.name} and {step.name} both write to {step.output}; choose "
                    "another output for one of them"
                )
        for later in steps[number + 1 :]:
            if later.output and any(is_below(text, later.output) for _, text in step.reads()):
                yield (
                    f"step {step.name} reads {later.output}, which the later step {later.name} "
                    f"writes; put {later.name} before {step.name}"
                )


def _linked(step: Step, steps: Sequence[Step]) -> Step:
    """Add to a step the names of the earlier steps whose outputs it reads."""
    texts = [text for _, text in step.reads()]
    after = tuple(
        other.name
        for other in steps[: steps.index(step)]
        if other.output and any(is_below(text, other.output) for text in texts)
    )
    return Step(step.name, step.config, step.output, after)
