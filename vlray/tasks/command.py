"""The datasets command: list, show, check, add, remove, corpus, score."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import get_args

import yaml

from vlray.config.data import DataSection
from vlray.config.datasets import DatasetsConfig
from vlray.runs.session import Failed, Session
from vlray.settings import secrets
from vlray.tasks import additions, catalogue, metrics, predictions, report
from vlray.tasks.check import check_split_files
from vlray.tasks.corpus import CorpusSpec, parse_parts
from vlray.tasks.examples import open_examples
from vlray.tasks.image_sets import check_names
from vlray.tasks.saved_corpora import corpus_names, load_corpus, save_corpus
from vlray.tasks.spec import Purpose


def run(config: DatasetsConfig, session: Session) -> None:
    """Run the action, without creating a run folder."""
    # Without a run folder there is no log file, so messages only go to the console.
    logging.basicConfig(format="%(message)s", level=config.env.log_level.upper())
    data = config.data.below(config.env.data_dir)
    # A folder set under a wrong name would have no effect, without any error.
    check_names("images", data.images)
    check_names("annotations", data.annotations)
    _ACTIONS[config.action](config, data)


def _list(config: DatasetsConfig, data: DataSection) -> None:
    if config.name:
        raise ValueError(f"list takes no name; use: vlray datasets show {config.name}")
    purposes = get_args(Purpose)
    if config.purpose and config.purpose not in purposes:
        raise ValueError(catalogue.refusal("purpose", config.purpose, purposes))
    datasets = [catalogue.find(name) for name in catalogue.names()]
    listed = [d for d in datasets if not config.purpose or config.purpose in d.spec.purposes]
    secrets.show(report.catalogue_table(listed, data))
    if corpora := corpus_names(config.project):
        secrets.show(f"\ncorpora of project {config.project}: {', '.join(corpora)}")


def _show(config: DatasetsConfig, data: DataSection) -> None:
    if config.name in corpus_names(config.project):
        values = load_corpus(config.name, config.project).model_dump(mode="json")
        secrets.show(yaml.safe_dump(values, sort_keys=False), end="")
        return
    name, split = catalogue.split_pair(_needed(config.name, "show"))
    dataset = catalogue.find(name)
    if split:
        catalogue.check_split(dataset.spec, split)
    if config.spec:
        values = dataset.spec.model_dump(mode="json", exclude_defaults=True)
        secrets.show(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")
    else:
        secrets.show(report.describe(dataset, data, split))


def _check(config: DatasetsConfig, data: DataSection) -> None:
    complete = True
    outputs = _outputs(config.regions)
    for pair, regions in _pairs(config):
        dataset, split = catalogue.find_split(pair)
        # A part whose region output is not among the options is compared with all outputs.
        compared = outputs[regions] if regions in outputs else sum(outputs.values(), ())
        result = check_split_files(dataset, split, data, compared)
        complete &= result.is_complete
        secrets.show("\n".join(report.check_lines(result)))
    # Fail only now, so that every split is reported first.
    if not complete:
        raise Failed("files are missing or faulty, as listed above")


def _outputs(regions: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Group region outputs by name, as in ``vg=regions/``; without one, the name is empty."""
    outputs: dict[str, tuple[str, ...]] = {}
    for text in regions:
        name, equals, output = text.partition("=")
        # An equals sign may also be part of a URI: s3://bucket?region=eu.
        if not equals or set(name) & set(":/"):
            name, output = "", text
        outputs[name] = (*outputs.get(name, ()), output)
    return outputs


def _pairs(config: DatasetsConfig) -> list[tuple[str, str]]:
    """List the splits to check, each with the name of its region output."""
    if config.name in corpus_names(config.project):
        parts = load_corpus(config.name, config.project).parts
        return [(part.name, part.regions) for part in parts]
    name, split = catalogue.split_pair(_needed(config.name, "check"))
    if split and config.split:
        raise ValueError(f"{config.name} already names a split; remove --split")
    splits = (split,) if split else config.split or tuple(catalogue.find(name).spec.splits)
    return [(f"{name}:{split}", "") for split in splits]


def _add(config: DatasetsConfig, data: DataSection) -> None:
    spec, path = additions.add(_needed(config.name, "add"), trust_code=config.trust_code)
    secrets.show(f"added {spec.name} ({', '.join(spec.splits)}), saved in {path}")


def _remove(config: DatasetsConfig, data: DataSection) -> None:
    additions.remove(_needed(config.name, "remove"))
    secrets.show(f"removed {config.name}")


def _corpus(config: DatasetsConfig, data: DataSection) -> None:
    parts = parse_parts(_needed(config.what, "corpus NAME"))
    # ``show`` and ``check`` look for corpora first, which would hide the dataset.
    if config.name in catalogue.names():
        raise ValueError(f"{config.name} is a dataset; choose another name for the corpus")
    path = save_corpus(config.name, CorpusSpec(parts=parts, mix=config.mix), config.project)
    secrets.show(f"corpus {config.name} of project {config.project}, saved in {path}")


def _score(config: DatasetsConfig, data: DataSection) -> None:
    dataset, split = catalogue.find_split(_needed(config.name, "score"))
    predicted = predictions.read(_needed(config.what, "score NAME"))
    examples = open_examples(dataset, split, data)
    result = metrics.score(dataset.spec.metric, examples, predicted)
    # Predictions for another split would otherwise score 0 without a hint at the cause.
    if len(result.missing) == len(examples):
        raise ValueError(
            f"{config.what} has {len(predicted):,} predictions, none of them for an example of "
            f"{config.name}; its ids look like {', '.join(list(result.missing)[:3])}"
        )
    secrets.show("\n".join([*result.lines(examples.problems.left_out), *examples.problems.lines()]))


def _needed(argument: str, action: str) -> str:
    if not argument:
        what = {
            "corpus NAME": "PARTS, such as vqa:train,gqa:train",
            "score NAME": "a FILE of predictions",
            "add": "a YAML file, module:Class or file.py:Class",
        }.get(action, "NAME; `vlray datasets list` names the datasets")
        raise ValueError(f"{action} needs {what}")
    return argument


_ACTIONS: dict[str, Callable[[DatasetsConfig, DataSection], None]] = {
    "list": _list,
    "show": _show,
    "check": _check,
    "add": _add,
    "remove": _remove,
    "corpus": _corpus,
    "score": _score,
}
