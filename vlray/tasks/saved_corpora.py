"""Save and load a project's corpora: YAML files next to ``settings.yaml``."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from vlray.settings import atomic, state
from vlray.settings.wording import explain_errors
from vlray.tasks import catalogue
from vlray.tasks.corpus import CorpusSpec, resolve


def corpora_folder(project: str) -> Path:
    """Return the folder with a project's corpora, next to ``settings.yaml``."""
    return state.settings_path().parent / "corpora" / project


def corpus_names(project: str) -> list[str]:
    """List the names of a project's corpora, sorted."""
    return sorted(file.stem for file in corpora_folder(project).glob("*.yaml"))


def save_corpus(name: str, spec: CorpusSpec, project: str) -> Path:
    """Save a corpus under a name, replacing any corpus with that name.

    Raises:
        ValueError: The name has characters other than letters, digits and ``+._-``, or a part
            does not exist.
    """
    # The name becomes the name of a file.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._-]*", name):
        raise ValueError(
            f"{name!r} cannot be the name of a corpus; use letters, digits and + . _ - only"
        )
    # Fail now, not when the corpus is opened, if a part does not exist.
    resolve(spec)
    path = corpora_folder(project) / f"{name}.yaml"
    values = spec.model_dump(mode="json", exclude_defaults=True)
    atomic.write(path, yaml.safe_dump(values, sort_keys=False).encode())
    return path


def load_corpus(name: str, project: str) -> CorpusSpec:
    """Load a saved corpus.

    Raises:
        ValueError: The project has no corpus with that name (the message lists the names), or the
            file is not valid.
    """
    path = corpora_folder(project) / f"{name}.yaml"
    if name not in corpus_names(project):
        raise ValueError(
            catalogue.refusal(f"corpus of project {project}", name, corpus_names(project))
        )
    try:
        return CorpusSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ValueError(f"{path} is not a corpus: {explain_errors(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
