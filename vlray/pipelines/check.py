"""What can be known to fail before anything is run: places and splits that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vlray.config.data import DataSection
from vlray.pipelines.inputs import ABSENT, fingerprint
from vlray.pipelines.steps import Step, is_below
from vlray.storage import files
from vlray.tasks.corpus import resolve, spec_of
from vlray.tasks.image_sets import find_images, resolve_path
from vlray.tasks.locate import annotation_files
from vlray.tasks.saved_corpora import corpus_names, load_corpus

READ = {
    "extract": ("boxes",),
    "convert": ("source",),
    "compare": ("a", "b"),
    "view": ("output",),
    "datasets": ("regions",),
    "train": ("regions",),
    "test": ("checkpoint", "regions"),
}
"""Options of each command that name what has to be there when it begins."""


def check(steps: Sequence[Step]) -> list[str]:
    """Look for what the steps read from outside of the pipeline.

    Returns:
        Of each mistake a sentence.

    Raises:
        OSError: A storage cannot be reached.
    """
    mistakes = []
    for number, step in enumerate(steps):
        written = [other.output for other in steps[:number] if other.output]
        has_datasets = any(other.command == "datasets" for other in steps[:number])
        for line in _check(step, written, has_datasets):
            mistakes.append(f"step {step.name}: {line}")
    return mistakes


def _check(step: Step, written: Sequence[str], has_datasets: bool) -> Iterator[str]:
    config: Any = step.config
    for name in READ.get(step.command, ()):
        given = getattr(config, name)
        for text in [given] if isinstance(given, str) else given:
            place = text.partition("=")[2] or text  # NAME=OUT
            if place and not any(is_below(place, output) for output in written):
                place = resolve_path(place, config.env.data_dir)
                if not files.is_uri(place) and fingerprint(place, deep=False) == ABSENT:
                    yield f"{name} is {text}, which is not there, and no earlier step writes it"
    if step.command == "extract" and not any(
        is_below(config.images.root, output) for output in written
    ):
        try:
            find_images(config.images, config.data, config.env.data_dir)
        except (OSError, ValueError) as error:
            yield str(error)
    if step.command in ("train", "test") and not has_datasets:
        valid = config.validation.valid if step.command == "train" else ""
        for text in filter(None, (config.corpus, valid)):
            try:
                yield from _check_corpus(text, config)
            except (OSError, ValueError) as error:
                yield str(error)


def _check_corpus(text: str, config: Any) -> Iterator[str]:
    """Look for the annotation files of every split."""
    data: DataSection = config.data.below(config.env.data_dir)
    is_kept = text in corpus_names(config.project)
    spec = load_corpus(text, config.project) if is_kept else spec_of(text)
    for dataset, split in resolve(spec):
        for file in annotation_files(dataset, split, data):
            if file.required and not file.path:
                name = dataset.spec.name
                yield (
                    f"{file.name} of {name}:{split} is not there, looked for as "
                    f"{' and '.join(file.candidates)}; say where the files of {name} are: "
                    f"--shared data.annotations.{name}=FOLDER"
                )
