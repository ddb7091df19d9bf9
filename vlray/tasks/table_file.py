"""Write a table of examples as they are read, in constant memory."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64
from tqdm import tqdm

from vlray.tasks.columns import SCHEMA, to_batch
from vlray.tasks.example import Example
from vlray.tasks.problems import Problems
from vlray.tasks.spec import DatasetSpec

Hashes = Int64[np.ndarray, "N"]
IsNew = Bool[np.ndarray, "N"]

log = logging.getLogger("vlray.tasks")

ROWS = 4096
"""Examples per record batch; a batch takes a few MiB in memory."""

META = b"vlray"
"""Metadata key, used in the schema (spec, split) and in the last batch (problems)."""


def write_table(
    examples: Iterator[Example], spec: DatasetSpec, split: str, path: Path, problems: Problems
) -> int:
    """Stream examples into a new file, and return their number; see `examples.table_from`."""
    about = json.dumps({"spec": spec.model_dump(mode="json"), "split": split})
    schema = SCHEMA.with_metadata({META: about})
    start, name, count, seen = time.monotonic(), f"{spec.name}:{split}", 0, SeenIds()
    with (
        path.open("wb") as file,
        pa.ipc.new_file(file, schema) as writer,
        # In a file or a log, a bar would leave one line for each update.
        tqdm(desc=name, unit=" examples", disable=not sys.stderr.isatty()) as progress,
    ):
        while some := list(islice(examples, ROWS)):
            progress.update(len(some))
            if batch := _usable(some, seen, problems):
                count += len(batch)
                writer.write_batch(to_batch(batch))
        # The schema's metadata is written first, before the problems are known, so the problems go
        # into the metadata of a last, empty batch.
        writer.write_batch(to_batch([]), custom_metadata={META: json.dumps(asdict(problems))})
    log.info("read %s examples of %s in %.1f s", f"{count:,}", name, time.monotonic() - start)
    return count


def _usable(examples: list[Example], seen: SeenIds, problems: Problems) -> list[Example]:
    """Drop examples without an image or with a repeated id, and count them as problems."""
    with_image = []
    for example in examples:
        if example.image_ids:
            with_image.append(example)
        else:
            problems.add("no-image", f"example {example.example_id}")
    new = seen.add([example.example_id for example in with_image])
    for index in np.flatnonzero(~new):
        problems.add("duplicate-id", f"{with_image[index].example_id}")
    return [example for example, is_new in zip(with_image, new, strict=True) if is_new]


class SeenIds:
    """Set of the ids seen so far, stored as 64-bit hashes: 43 MB for 5.4 million ids.

    The probability that any two of that many ids share a hash is about one in a million. The
    hashes are stored in sorted runs, longest first. A new run absorbs the last run while that is
    no longer than the new one, as in a binary counter, so the cost per id stays logarithmic.
    """

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def add(self, ids: list[str]) -> IsNew:
        """Add ids, and return whether each is new; a repeated id is new only the first time."""
        # Python salts its string hashes in each process; these never leave the process.
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        new = np.zeros(len(ids), bool)
        run, first = np.unique(hashes, return_index=True)
        new[first] = True
        for old in self._runs:
            # searchsorted returns len(old) for hashes above the last one.
            positions = np.minimum(np.searchsorted(old, hashes), len(old) - 1)
            new &= old[positions] != hashes
        run = run[new[first]]
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.concatenate((self._runs.pop(), run))
            run.sort(kind="stable")  # numpy's stable sort merges two sorted halves in linear time
        if len(run):
            self._runs.append(run)
        return new
