"""Look up datasets by name: the built-in ones, and the user's next to ``settings.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

from vlray.settings import plugins, state
from vlray.settings.wording import did_you_mean, plain_message
from vlray.tasks.example import Example
from vlray.tasks.layout import load_layout
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files, Layout, VisionLanguageDataset
from vlray.tasks.spec import DatasetSpec

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is five times faster


@dataclass(frozen=True)
class SpecDataset:
    """Dataset defined by a spec alone; the spec's layout reads the files."""

    spec: DatasetSpec

    def read(self, split: str, files: Files, problems: Problems) -> Iterator[Example]:
        """Yield a split's examples; the layout receives the id rule and the split's options."""
        options = {"id_rule": self.spec.id_rule, **self.spec.splits[split].options}
        return self.layout(files, problems, options)

    @property
    def layout(self) -> Layout:
        """Function that reads the files."""
        return load_layout(self.spec.layout)


def user_folder() -> Path:
    """Return the folder with the user's datasets, next to ``settings.yaml``."""
    return state.settings_path().parent / "datasets"


def built_in_names() -> list[str]:
    """List the names of the built-in datasets, sorted."""
    folder = resources.files("vlray.tasks") / "datasets"
    return sorted(
        file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
    )


def user_names() -> list[str]:
    """List the names of the user's datasets, sorted."""
    return sorted(file.stem for file in user_folder().glob("*.yaml"))


def names() -> list[str]:
    """List the names of all datasets, sorted."""
    # A user's dataset may share the name of a dataset that became built-in later.
    return sorted({*built_in_names(), *user_names()})


def find(name: str) -> VisionLanguageDataset:
    """Look up a dataset by name.

    Raises:
        ValueError: No dataset has that name (the message lists all names and the most similar
            one), or the user's file that defines the dataset is no longer valid.
    """
    # A name that became built-in after the user's dataset was added means the built-in dataset.
    if name in built_in_names():
        text = (resources.files("vlray.tasks") / "datasets" / f"{name}.yaml").read_text("utf-8")
        return SpecDataset(parse_spec(text, f"{name}.yaml"))
    if name in user_names():
        try:
            return from_file(user_folder() / f"{name}.yaml")
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"{error}; correct it and add it again, or run: vlray datasets remove {name}"
            ) from error
    raise ValueError(refusal("dataset", name, names()))


def all_specs() -> list[DatasetSpec]:
    """Return the specs of all datasets, sorted by name.

    Raises:
        ValueError: A user's dataset is no longer valid; the message says how to remove it.
    """
    return [find(name).spec for name in names()]


def split_pair(pair: str) -> tuple[str, str]:
    """Split ``dataset:split`` at its colon; without a colon the split is empty."""
    name, _, split = pair.partition(":")
    return name, split


def find_split(pair: str) -> tuple[VisionLanguageDataset, str]:
    """Look up ``dataset:split``; return the dataset and the name of the split.

    Raises:
        ValueError: ``pair`` names no split, or the dataset or split does not exist.
    """
    name, split = split_pair(pair)
    dataset = find(name)
    if not split:
        choices = ", ".join(dataset.spec.splits)
        raise ValueError(f"{pair} names no split; use {name}:SPLIT with one of {choices}")
    check_split(dataset.spec, split)
    return dataset, split


def check_split(spec: DatasetSpec, split: str) -> None:
    """Check that the dataset has a split.

    Raises:
        ValueError: There is no such split; the message lists the splits and the most similar name.
    """
    if split not in spec.splits:
        raise ValueError(refusal(f"split of {spec.name}", split, spec.splits))


def refusal(kind: str, word: str, choices: Iterable[str]) -> str:
    """Format an error message for an unknown name, with the most similar choice and all choices."""
    names = list(choices)
    hint = did_you_mean(word, names)
    return f"unknown {kind} {word!r}; {hint}There are {', '.join(names) or 'none'}"


def from_file(path: Path) -> VisionLanguageDataset:
    """Read a dataset's YAML file: a spec, or ``{class: module:Class}``.

    Raises:
        ValueError: The file is not valid; the message lists each mistake with its key.
    """
    text = path.read_text(encoding="utf-8")
    values = _load_yaml(text, str(path))
    # `additions.add` saves a user's class as this single key.
    if set(values) == {"class"}:
        return from_class(str(values["class"]))
    return SpecDataset(parse_spec(text, str(path)))


def from_class(target: str) -> VisionLanguageDataset:
    """Create a dataset from a user's class.

    Args:
        target: ``module:Class`` or ``path/to/file.py:Class``; the class takes no arguments.

    Raises:
        ValueError: The class does not exist, or is not a `VisionLanguageDataset`.
    """
    dataset: VisionLanguageDataset = plugins.load(target)()
    # A structural check: the user's class need not inherit from the protocol.
    if not isinstance(getattr(dataset, "spec", None), DatasetSpec) or not callable(
        getattr(dataset, "read", None)
    ):
        raise ValueError(
            f"{target} is not a dataset: it needs a `spec` (vlray.tasks.spec.DatasetSpec) and a "
            "method `read(split, files, problems)`"
        )
    return dataset


def parse_spec(text: str, source: str) -> DatasetSpec:
    """Parse and validate a spec's YAML text; ``source`` names the text in messages.

    Raises:
        ValueError: The text is not valid; the message lists every mistake with its key.
    """
    try:
        return DatasetSpec.model_validate(_load_yaml(text, source))
    except ValidationError as error:
        wrong = "; ".join(
            _explain(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors()
        )
        raise ValueError(f"{source} is not a valid dataset: {wrong}") from error


def _load_yaml(text: str, source: str) -> Mapping[str, object]:
    try:
        # The parser recurses, so deep nesting ends in a RecursionError.
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{source} contains a {type(values).__name__}; expected a mapping, such as "
            "`vlray datasets show vqa --spec` prints"
        )
    return values


def _explain(keys: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(map(str, keys))
    if kind == "extra_forbidden":
        hint = did_you_mean(str(keys[-1]), _allowed_keys(keys)).strip()
        return f"unknown key {name}" + (f" ({hint})" if hint else "")
    if kind == "missing":
        return f"{name} is missing"
    # An error that concerns the whole spec (a validator's) has no key.
    return f"{name}: {plain_message(message)}".removeprefix(": ")


def _allowed_keys(keys: tuple[int | str, ...]) -> list[str]:
    from vlray.tasks.spec import SplitSpec

    # ("splits", NAME, KEY) is a key of a split, everything else a key of the dataset.
    model = SplitSpec if keys[0] == "splits" and len(keys) > 2 else DatasetSpec
    return list(model.model_fields)
