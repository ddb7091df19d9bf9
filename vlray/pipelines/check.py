"""Checks for missing files, folders and splits, before any step runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vlray.config.data import DataSection
from vlray.pipelines.inputs import ABSENT, fingerprint
from vlray.pipelines.paths import is_below
from vlray.pipelines.steps import Step
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
"""Options of each command whose files or folders must exist when the command starts."""


def check(steps: Sequence[Step]) -> list[str]:
    """Check that all inputs from outside the pipeline exist.

    Returns:
        One message for each missing input.

    Raises:
        OSError: An object storage cannot be reached.
    """
    mistakes = []
    for number, step in enumerate(steps):
        # Outputs of earlier steps do not have to exist yet.
        written = [other.output for other in steps[:number] if other.output]
        has_datasets = any(other.command == "datasets" for other in steps[:number])
        for line in _check(step, written, has_datasets):
            mistakes.append(f"step {step.name}: {line}")
    return mistakes


def _check(step: Step, written: Sequence[str], has_datasets: bool) -> Iterator[str]:
    config: Any = step.config
    for name in READ.get(step.command, ()):
        value = getattr(config, name)
        for text in [value] if isinstance(value, str) else value:
            path = text.partition("=")[2] or text  # NAME=OUT
            if path and not any(is_below(path, output) for output in written):
                path = resolve_path(path, config.env.data_dir)
                # A missing URI is reported by the step itself.
                if not files.is_uri(path) and fingerprint(path, deep=False) == ABSENT:
                    yield f"{name}: {text} does not exist, and no earlier step writes it"
    if step.command == "extract" and not any(
        is_below(config.images.root, output) for output in written
    ):
        try:
            find_images(config.images, config.data, config.env.data_dir)
        except (OSError, ValueError) as error:
            # Report the error with the mistakes in other steps instead of stopping here.
            yield str(error)
    # A `vlray datasets` step may define the corpus that a later step names.
    if step.command in ("train", "test") and not has_datasets:
        valid = config.validation.valid if step.command == "train" else ""
        for text in filter(None, (config.corpus, valid)):
            try:
                yield from _check_corpus(text, config)
            except (OSError, ValueError) as error:
                yield str(error)


def _check_corpus(text: str, config: Any) -> Iterator[str]:
    """Report the annotation files that a corpus requires but that do not exist."""
    data: DataSection = config.data.below(config.env.data_dir)
    is_saved = text in corpus_names(config.project)
    spec = load_corpus(text, config.project) if is_saved else spec_of(text)
    for dataset, split in resolve(spec):
        for file in annotation_files(dataset, split, data):
            if file.required and not file.path:
                name = dataset.spec.name
                yield (
                    f"{file.name} for {name}:{split} was not found at "
                    f"{' or '.join(file.candidates)}; set the folder with the files for {name}: "
                    f"--shared data.annotations.{name}=FOLDER"
                )
