"""Open a loader with one call: names of datasets and a place of regions in, batches out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlray.config.data import DataSection
from vlray.config.datasets import DatasetsConfig
from vlray.config.loader import LoaderSection
from vlray.loader.collate import Collate
from vlray.loader.dataset import RegionDataset
from vlray.loader.loader import RegionLoader
from vlray.regions.store import open_store
from vlray.settings.reader import read
from vlray.tasks.corpus import Corpus, CorpusSpec, open_corpus
from vlray.tasks.labels import LabelSpace
from vlray.tasks.saved_corpora import corpus_names, load_corpus

_NAMED = re.compile(r"([^:=@,\s/?]+)=(.+)")
"""A name is as a corpus has it; the options of a URI have ``=`` in them as well."""


def open_loader(
    corpus: CorpusSpec | str,
    regions: str | Path | Mapping[str, str | Path],
    batch_size: int = 32,
    *,
    options: LoaderSection | None = None,
    data: DataSection | None = None,
    label_space: LabelSpace | None = None,
    **how: Any,
) -> RegionLoader:
    """Open the examples of some datasets with the regions of their images.

    >>> loader = open_loader("vqa:train", regions="regions/")  # doctest: +SKIP
    >>> for batch in loader:  # doctest: +SKIP
    ...     batch.input_ids, batch.visual_feats, batch.visual_pos, batch.targets

    Args:
        corpus: ``dataset:split``, several of them separated by commas, the name of a corpus that
            ``vlray datasets corpus`` keeps in the project, or a spec.
        regions: The output of ``vlray extract`` that has the images, a local path or a URI; or
            several by the names that the corpus gives: ``{"vg": "regions-vg/"}`` for
            ``vqa:train@vg``.
        batch_size: Examples of one worker's batch.
        options: Boxes, tokens, masks: what the model wants.
        data: Where annotations are; not given: as the settings say (``vlray env set``).
        label_space: The labels; not given: those of the corpus. An evaluation wants those of its
            training: ``training.dataset.corpus.label_space``.
        how: The other arguments of `RegionLoader`: seed, shuffle, drop_last, rank, world,
            prefetch.

    Raises:
        ValueError: There is no such dataset or split, or a name of regions is not given.
        FileNotFoundError: An annotation file or the output is not there.
        DataError: Something is wrong with the data, and ``data.on_bad`` is stop.
    """
    examples, outputs, data = open_named(corpus, regions, data, label_space)
    stores = {name: open_store(place, data.cache_folder()) for name, place in outputs.items()}
    collate = Collate(options)
    dataset = RegionDataset(examples, stores, collate, on_bad=data.on_bad)
    return RegionLoader(dataset, batch_size, **how)


def open_named(
    corpus: CorpusSpec | str,
    regions: str | Path | Mapping[str, str | Path],
    data: DataSection | None,
    label_space: LabelSpace | None,
) -> tuple[Corpus, dict[str, str], DataSection]:
    """Open the examples, and give the outputs by name and what is to be known of data.

    The user's settings tell which corpora the project keeps by a name, and where data is, if
    ``data`` does not.
    """
    config = read(DatasetsConfig, [])
    if isinstance(corpus, str) and corpus in corpus_names(config.project):
        corpus = load_corpus(corpus, config.project)
    data = data or config.data.below(config.env.data_dir)
    outputs = regions if isinstance(regions, Mapping) else {"": regions}
    examples = open_corpus(corpus, data, label_space)
    return examples, {name: str(place) for name, place in outputs.items()}, data


def outputs_by_name(given: Sequence[str]) -> dict[str, str]:
    """Give the places of the regions by the names that the corpus gives; one alone has none.

    Args:
        given: As on a command line: ``OUT``, or ``NAME=OUT`` for each of several.

    Raises:
        ValueError: One of several has no name.
    """
    named: dict[str, str] = {}
    for text in given:
        match = _NAMED.fullmatch(text)
        name, place = match.groups() if match else ("", text)
        if name in named or (not name and len(given) > 1):
            raise ValueError(
                f"the regions {', '.join(given)} are several; give each its name, as the "
                "corpus has it: dataset:split@NAME and NAME=OUT"
            )
        named[name] = place
    return named
