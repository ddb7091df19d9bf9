"""The examples of a split as a table on disk: streamed in once, then opened in milliseconds.

Official files are read entry by entry into an uncompressed Arrow file, which is memory-mapped:
any example is at hand, and what is not looked at takes no memory, in however many processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from vlray.config.data import DataSection
from vlray.settings.atomic import replacing
from vlray.storage.locks import LockFileError, build_once
from vlray.tasks.catalogue import SpecDataset, check_split
from vlray.tasks.columns import example_of
from vlray.tasks.example import Example
from vlray.tasks.layout import source_digest
from vlray.tasks.locate import identity, split_files
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files, VisionLanguageDataset
from vlray.tasks.spec import DatasetSpec, SplitSpec
from vlray.tasks.table_file import META, write_table

Rows = Int64[np.ndarray, "N"]


class ExampleTable:
    """The examples of one split, at hand by their index.

    It can be pickled: another process opens the same file.

    Attributes:
        spec, split: The dataset and the split that they are of.
        problems: What was wrong with the files when the table was made.
        path: The Arrow file.
    """

    def __init__(
        self,
        path: Path,
        split: str = "",
        rows: Rows | None = None,
        spec: DatasetSpec | None = None,
    ) -> None:
        """Open a table that `table_from` made.

        Args:
            path: Its file.
            split: Name of the split; empty: the one it was made of.
            rows: The rows that belong to the split, where it is a part of another; None: all.
            spec: The dataset as it is known now: its labels and its metric may have changed since
                the file was made. None: as it was then.
        """
        self.path, self._rows = path, rows
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            self._table = reader.read_all()
            last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
            self.problems = Problems(**json.loads(last.custom_metadata[META]))
        about = json.loads(self._table.schema.metadata[META])
        self.spec = spec or DatasetSpec.model_validate(about["spec"])
        self.split: str = split or about["split"]
        # Reading an example costs something for each column: those without any value are left out.
        self._columns = {
            name: column
            for name, column in zip(
                self._table.column_names, self._table.itercolumns(), strict=True
            )
            if column.null_count < len(column)
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return ExampleTable, (self.path, self.split, self._rows, self.spec)

    @property
    def name(self) -> str:
        """``dataset:split``."""
        return f"{self.spec.name}:{self.split}"

    def __len__(self) -> int:
        """Give the number of examples."""
        return len(self._table) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Example:
        """Give one example; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self):,} examples; there is no number {index}")
        index %= len(self)
        row = index if self._rows is None else int(self._rows[index])
        return example_of({name: column[row].as_py() for name, column in self._columns.items()})

    def __iter__(self) -> Iterator[Example]:
        """Yield all of them in their order, a thousand at a time."""
        for start in range(0, len(self), 1000):
            rows = slice(start, start + 1000)
            part = self._table[rows] if self._rows is None else self._table.take(self._rows[rows])
            yield from map(example_of, part.to_pylist())

    def take(self, indices: Rows) -> list[Example]:
        """Give the examples of some indices, in their order."""
        return [self[int(index)] for index in indices]

    def column(self, name: str) -> pa.ChunkedArray:
        """Give one column of all examples; `columns.SCHEMA` has their names and types."""
        column = self._table.column(name)
        return column if self._rows is None else column.take(pa.array(self._rows))

    def part(self, split: str, rows: Rows) -> ExampleTable:
        """Give some of the rows as a table of another split, of the same file."""
        chosen = rows if self._rows is None else self._rows[rows]
        return ExampleTable(self.path, split, chosen, self.spec)


def table_from(
    examples: Iterator[Example],
    spec: DatasetSpec,
    split: str,
    path: Path,
    problems: Problems | None = None,
) -> ExampleTable:
    """Make a table of any examples, streamed; an older file of that path is replaced.

    Args:
        examples: Read once, in order; of two with the same id the first is kept.
        spec: The dataset that they are of.
        split: The split that they are of.
        path: Where the table's file is to be.
        problems: What the iterator counts its problems in. The table counts here what it leaves
            out itself: duplicated ids, and examples without an image.

    Raises:
        ValueError: A value is not what an `Example` holds.
    """
    problems = Problems() if problems is None else problems
    with replacing(path) as temporary:
        write_table(examples, spec, split, temporary, problems)
    return ExampleTable(path)


def open_examples(dataset: VisionLanguageDataset, split: str, data: DataSection) -> ExampleTable:
    """Open the examples of a split; its official files are read the first time, and after changes.

    Raises:
        ValueError: There is no such split, or a file is of another layout.
        FileNotFoundError: A required file is not here; says what to download from where.
        DataError: Something is wrong with the files and ``data.on_bad`` is ``stop``; the whole
            of them was looked at then.
    """
    check_split(dataset.spec, split)
    part = dataset.spec.splits[split]
    found = split_files(dataset, split, data)
    if part.of:
        whole = open_examples(dataset, part.of, data)
        return whole.part(split, _selected(whole, part, found))
    key = _key(dataset, split, found)
    # A + is fine in a file's name, but not everywhere in a URI's.
    stem = f"{dataset.spec.name}-{split}".replace("+", "plus")
    path = data.cache_folder() / "examples" / f"{stem}-{key[:16]}.arrow"
    try:
        build_once(path, lambda temporary: _read_all(dataset, split, found, temporary))
    except LockFileError as error:
        raise ValueError(
            f"{path.parent} is not writable ({error.strerror}); give a folder for derived files: "
            "--data.cache-dir FOLDER"
        ) from error
    table = ExampleTable(path, spec=dataset.spec)
    table.problems.check(data.on_bad, table.name)
    return table


def _read_all(dataset: VisionLanguageDataset, split: str, split_files: Files, path: Path) -> None:
    problems = Problems()
    examples = dataset.read(split, split_files, problems)
    write_table(examples, dataset.spec, split, path, problems)


def _key(dataset: VisionLanguageDataset, split: str, found: Files) -> str:
    """Digest all that a table depends on."""
    spec = dataset.spec
    reader = dataset.layout if isinstance(dataset, SpecDataset) else type(dataset)
    parts = {
        "code": source_digest(reader, write_table, example_of),
        "layout": spec.layout,
        "id_rule": spec.id_rule,
        "split": spec.splits[split].model_dump(include={"files", "options"}, mode="json"),
        "files": {role: [identity(path) for path in paths] for role, paths in found.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _selected(whole: ExampleTable, part: SplitSpec, found: Files) -> Rows:
    """Find the rows of the images that a split takes, or leaves, of another one.

    Raises:
        ValueError: The file of image ids has fewer of them than the split wants.
    """
    from vlray.tasks.layouts.lxmert import read_image_order

    role, count = part.first_images or part.except_images or ("", 0)
    ids: dict[str, None] = {}
    for image_id in read_image_order(found[role][0], whole.spec.id_rule):
        ids[image_id] = None
        if len(ids) == count:
            break
    if len(ids) < count:
        raise ValueError(
            f"{found[role][0]} has {len(ids):,} image ids, but the split is made of the first "
            f"{count:,}; give the whole file"
        )
    first = pc.list_element(whole.column("image_ids"), 0)
    chosen = pc.is_in(first, value_set=pa.array(list(ids), pa.string()))
    mask = chosen.to_numpy() == (part.first_images is not None)
    return np.flatnonzero(mask).astype(np.int64)
