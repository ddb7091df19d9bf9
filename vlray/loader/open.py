"""Construction of a loader in one call, from dataset names and region paths."""

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
"""``NAME=OUT``. A name must not contain ``?`` or ``/``, because URI options also contain ``=``."""


def open_loader(
    corpus: CorpusSpec | str,
    regions: str | Path | Mapping[str, str | Path],
    batch_size: int = 32,
    *,
    options: LoaderSection | None = None,
    data: DataSection | None = None,
    label_space: LabelSpace | None = None,
    **loader_options: Any,
) -> RegionLoader:
    """Open the examples of one or more datasets with the regions of their images.

    >>> loader = open_loader("vqa:train", regions="regions/")  # doctest: +SKIP
    >>> for batch in loader:  # doctest: +SKIP
    ...     batch.input_ids, batch.visual_feats, batch.visual_pos, batch.targets

    Args:
        corpus: ``dataset:split``, several of them separated by commas, the name of a corpus saved
            with ``vlray datasets corpus``, or a `CorpusSpec`.
        regions: Output of ``vlray extract`` with the regions of the images, as a local path or a
            URI. For several outputs, a mapping from the names in the corpus to the outputs, such as
            ``{"vg": "regions-vg/"}`` for ``vqa:train@vg``.
        batch_size: Examples per batch and worker.
        options: Encoding of boxes and texts, and masking, as the model requires. None: the
            defaults.
        data: Locations of the annotations. None: from the settings (``vlray env set``).
        label_space: Label space of the targets. None: from the corpus. For evaluation, pass the
            label space of the training: ``training.dataset.corpus.label_space``.
        loader_options: Other arguments of `RegionLoader`: seed, shuffle, drop_last, rank, world,
            prefetch.

    Raises:
        ValueError: A dataset, split or region name does not exist.
        FileNotFoundError: An annotation file or a region output does not exist.
        DataError: The data has errors, and ``data.on_bad`` is stop.
    """
    examples, outputs, data = open_named(corpus, regions, data, label_space)
    stores = {name: open_store(path, data.cache_folder()) for name, path in outputs.items()}
    collate = Collate(options)
    dataset = RegionDataset(examples, stores, collate, on_bad=data.on_bad)
    return RegionLoader(dataset, batch_size, **loader_options)


def open_named(
    corpus: CorpusSpec | str,
    regions: str | Path | Mapping[str, str | Path],
    data: DataSection | None,
    label_space: LabelSpace | None,
) -> tuple[Corpus, dict[str, str], DataSection]:
    """Open the examples of a corpus, which can be a saved corpus of the project.

    Args:
        corpus: See `open_loader`.
        regions: See `open_loader`.
        data: See `open_loader`.
        label_space: See `open_loader`.

    Returns:
        The examples; the paths of the region outputs, keyed by name; and the resolved data options.
    """
    # No arguments: in Python, only variables and settings.yaml set these options.
    config = read(DatasetsConfig, [])
    if isinstance(corpus, str) and corpus in corpus_names(config.project):
        corpus = load_corpus(corpus, config.project)
    data = data or config.data.below(config.env.data_dir)
    outputs = regions if isinstance(regions, Mapping) else {"": regions}
    examples = open_corpus(corpus, data, label_space)
    return examples, {name: str(path) for name, path in outputs.items()}, data


def outputs_by_name(values: Sequence[str]) -> dict[str, str]:
    """Parse region outputs into paths keyed by name.

    Args:
        values: Command-line values: a single ``OUT``, which gets the name ``""``, or any number of
            ``NAME=OUT``.

    Raises:
        ValueError: One of several outputs has no name, or a name occurs twice.
    """
    paths: dict[str, str] = {}
    for text in values:
        match = _NAMED.fullmatch(text)
        name, path = match.groups() if match else ("", text)
        if name in paths or (not name and len(values) > 1):
            raise ValueError(
                f"there are several regions: {', '.join(values)}; name each one as in the corpus: "
                "dataset:split@NAME and NAME=OUT"
            )
        paths[name] = path
    return paths
