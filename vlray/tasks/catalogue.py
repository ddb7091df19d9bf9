"""The datasets by name: those that vlray brings, and the user's own beside its settings.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vlray.settings import plugins, state
from vlray.settings.wording import did_you_mean, plain_message
from vlray.tasks.example import Example
from vlray.tasks.layout import load_layout
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files, Layout, VisionLanguageDataset
from vlray.tasks.spec import DatasetSpec

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as quick where it is built


@dataclass(frozen=True)
class SpecDataset:
    """A dataset that is all said by its spec: the layout reads the files."""

    spec: DatasetSpec

    def read(self, split: str, files: Files, problems: Problems) -> Iterator[Example]:
        """Yield the examples of a split; the layout is told the id rule and the split's options."""
        options = {"id_rule": self.spec.id_rule, **self.spec.splits[split].options}
        return self.layout(files, problems, options)

    @property
    def layout(self) -> Layout:
        """The function that reads its files."""
        return load_layout(self.spec.layout)


def user_folder() -> Path:
    """Say where the user's own datasets are kept: a folder beside ``settings.yaml``."""
    return state.settings_path().parent / "datasets"


def built_in_names() -> list[str]:
    """List the datasets that vlray brings, sorted."""
    found = resources.files("vlray.tasks") / "datasets"
    return sorted(
        file.name.removesuffix(".yaml") for file in found.iterdir() if file.name.endswith(".yaml")
    )


def user_names() -> list[str]:
    """List the user's own, sorted."""
    return sorted(file.stem for file in user_folder().glob("*.yaml"))


def names() -> list[str]:
    """List all names, sorted."""
    return sorted({*built_in_names(), *user_names()})


def find(name: str) -> VisionLanguageDataset:
    """Give the dataset of a name.

    Raises:
        ValueError: There is none of that name (the nearest and all of them are said), or the
            user's file that defines it is no longer right.
    """
    if name in built_in_names():
        text = (resources.files("vlray.tasks") / "datasets" / f"{name}.yaml").read_text("utf-8")
        return SpecDataset(parse_spec(text, f"{name}.yaml"))
    if name in user_names():
        try:
            return from_file(user_folder() / f"{name}.yaml")
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"{error}; mend it and add it again, or: vlray datasets remove {name}"
            ) from error
    raise ValueError(refusal("dataset", name, names()))


def all_specs() -> list[DatasetSpec]:
    """Give what is known of every dataset, in the order of their names.

    Raises:
        ValueError: One of the user's own is no longer right; the message says how to remove it.
    """
    return [find(name).spec for name in names()]


def split_pair(pair: str) -> tuple[str, str]:
    """Split ``dataset:split`` at its colon; the split is empty where there is none."""
    name, _, split = pair.partition(":")
    return name, split


def find_split(pair: str) -> tuple[VisionLanguageDataset, str]:
    """Give the dataset and the split that ``dataset:split`` names.

    Raises:
        ValueError: No split is named, or there is no such dataset or split.
    """
    name, split = split_pair(pair)
    dataset = find(name)
    if not split:
        choices = ", ".join(dataset.spec.splits)
        raise ValueError(f"{pair} names no split; give {name}:SPLIT, one of {choices}")
    check_split(dataset.spec, split)
    return dataset, split


def check_split(spec: DatasetSpec, split: str) -> None:
    """Refuse a split that the dataset does not have.

    Raises:
        ValueError: With the nearest and all of its splits.
    """
    if split not in spec.splits:
        raise ValueError(refusal(f"split of {spec.name}", split, spec.splits))


def refusal(kind: str, word: str, choices: Iterable[str]) -> str:
    """Say that a word is none of the choices, which one is near, and what they are."""
    known = list(choices)
    hint = did_you_mean(word, known)
    return f"unknown {kind} {word!r}; {hint}There are {', '.join(known) or 'none'}"


def from_file(path: Path) -> VisionLanguageDataset:
    """Read a dataset's YAML file: a spec, or ``{class: module:Class}``.

    Raises:
        ValueError: It is no such file; each mistake is said with its place.
    """
    text = path.read_text(encoding="utf-8")
    values = _load_yaml(text, str(path))
    if set(values) == {"class"}:
        return from_class(str(values["class"]))
    return SpecDataset(parse_spec(text, str(path)))


def from_class(target: str) -> VisionLanguageDataset:
    """Make the dataset of a class of the user's own.

    Args:
        target: ``module:Class`` or ``path/to/file.py:Class``; the class takes no arguments.

    Raises:
        ValueError: There is no such class, or it is no `VisionLanguageDataset`.
    """
    dataset: VisionLanguageDataset = plugins.load(target)()
    if not isinstance(getattr(dataset, "spec", None), DatasetSpec) or not callable(
        getattr(dataset, "read", None)
    ):
        raise ValueError(
            f"{target} is no dataset: it needs a `spec` (vlray.tasks.spec.DatasetSpec) and a "
            "method `read(split, files, problems)`"
        )
    return dataset


def parse_spec(text: str, origin: str) -> DatasetSpec:
    """Check the YAML text of a spec.

    Raises:
        ValueError: With every mistake: its place in the file, what is wrong, what is allowed.
    """
    try:
        return DatasetSpec.model_validate(_load_yaml(text, origin))
    except ValidationError as error:
        wrong = "; ".join(
            _explain(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors()
        )
        raise ValueError(f"{origin} describes no dataset: {wrong}") from error


def _load_yaml(text: str, origin: str) -> Mapping[str, Any]:
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{origin} is no YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{origin} holds a {type(values).__name__}; give a mapping such as "
            "`vlray datasets show vqa --spec` prints"
        )
    return values


def _explain(place: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(map(str, place))
    if kind == "extra_forbidden":
        hint = did_you_mean(str(place[-1]), _keys(place)).strip()
        return f"unknown key {name}" + (f" ({hint})" if hint else "")
    if kind == "missing":
        return f"{name} is missing"
    return f"{name}: {plain_message(message)}".removeprefix(": ")


def _keys(place: tuple[int | str, ...]) -> list[str]:
    from vlray.tasks.spec import SplitSpec

    model = SplitSpec if place[0] == "splits" and len(place) > 2 else DatasetSpec
    return list(model.model_fields)
