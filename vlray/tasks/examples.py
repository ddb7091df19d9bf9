"""Tables of a split's examples on disk, written once and then opened in milliseconds.

Official files are read entry by entry into an uncompressed Arrow file, which is memory-mapped. Any
example can be read by its index, and processes share the memory pages that they read.

Shapes: N: rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

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
    """Examples of one split, with random access by index.

    The object can be pickled; the process that unpickles it opens the same file.

    Attributes:
        spec, split: Spec of the dataset, and name of the split.
        problems: Problems found in the official files when the table was written.
        path: The Arrow file.
    """

    def __init__(
        self,
        path: Path,
        split: str = "",
        rows: Rows | None = None,
        spec: DatasetSpec | None = None,
    ) -> None:
        """Open a table that `table_from` wrote.

        Args:
            path: The Arrow file.
            split: Name of the split. Empty: the name stored in the file.
            rows: Rows of the file that belong to the split. None: all rows.
            spec: Current spec of the dataset, whose labels and metric may have changed since the
                file was written. None: the spec stored in the file.
        """
        self.path, self._rows = path, rows
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            self._table = reader.read_all()
            # The last batch is empty; its metadata holds the problems.
            last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
            self.problems = Problems(**json.loads(last.custom_metadata[META]))
        about = json.loads(self._table.schema.metadata[META])
        self.spec = spec or DatasetSpec.model_validate(about["spec"])
        self.split: str = split or about["split"]
        # Reading an example takes time per column, so columns without values are left out.
        self._columns = {
            name: column
            for name, column in zip(
                self._table.column_names, self._table.itercolumns(), strict=True
            )
            if column.null_count < len(column)
        }

    def __reduce__(self) -> tuple[type[ExampleTable], tuple[Path, str, Rows | None, DatasetSpec]]:
        return ExampleTable, (self.path, self.split, self._rows, self.spec)

    @property
    def name(self) -> str:
        """``dataset:split``."""
        return f"{self.spec.name}:{self.split}"

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._table) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Example:
        """Return one example; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"index {index} is out of range: {self.name} has {len(self):,} examples"
            )
        index %= len(self)
        row = index if self._rows is None else int(self._rows[index])
        return example_of({name: column[row].as_py() for name, column in self._columns.items()})

    def __iter__(self) -> Iterator[Example]:
        """Yield all examples in order, reading a thousand at a time."""
        # One to_pylist for many rows is much faster than one as_py per cell.
        for start in range(0, len(self), 1000):
            rows = slice(start, start + 1000)
            part = self._table[rows] if self._rows is None else self._table.take(self._rows[rows])
            yield from map(example_of, part.to_pylist())

    def take(self, indices: Rows) -> list[Example]:
        """Return the examples at ``indices``, in the same order."""
        return [self[int(index)] for index in indices]

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column for all examples; `columns.SCHEMA` lists the names and types."""
        column = self._table.column(name)
        return column if self._rows is None else column.take(pa.array(self._rows))

    def part(self, split: str, rows: Rows) -> ExampleTable:
        """Return a table with some of the rows and another split name, backed by the same file."""
        selected = rows if self._rows is None else self._rows[rows]
        return ExampleTable(self.path, split, selected, self.spec)


def table_from(
    examples: Iterator[Example],
    spec: DatasetSpec,
    split: str,
    path: Path,
    problems: Problems | None = None,
) -> ExampleTable:
    """Write examples to a table in constant memory, replacing any existing file.

    Args:
        examples: Examples, read once and in order. If an id repeats, the first example is kept.
        spec: Spec of the dataset.
        split: Name of the split.
        path: File to write.
        problems: Object in which ``examples`` counts its problems. Examples left out of the table
            (duplicate ids, no image) are also counted there.

    Raises:
        ValueError: A field of an `Example` has the wrong type.
    """
    problems = Problems() if problems is None else problems
    with replacing(path) as temporary:
        write_table(examples, spec, split, temporary, problems)
    return ExampleTable(path)


def open_examples(dataset: VisionLanguageDataset, split: str, data: DataSection) -> ExampleTable:
    """Open the examples of a split. The official files are read again only if they changed.

    Raises:
        ValueError: The split does not exist, a file has the wrong layout, or the cache folder is
            not writable.
        FileNotFoundError: A required file is missing; the message gives the download URL.
        DataError: The files have problems and ``data.on_bad`` is ``stop``; raised only after all
            files have been read to the end.
    """
    check_split(dataset.spec, split)
    part = dataset.spec.splits[split]
    paths = split_files(dataset, split, data)
    if part.of:
        # A subset has no file of its own in the cache: it is a view of the whole split.
        whole = open_examples(dataset, part.of, data)
        return whole.part(split, _selected_rows(whole, part, paths))
    key = _key(dataset, split, paths)
    # A + is allowed in a file name, but in a URI it may mean a space.
    stem = f"{dataset.spec.name}-{split}".replace("+", "plus")
    # 16 hex digits are 64 bits: enough to tell apart the few versions of one split.
    path = data.cache_folder() / "examples" / f"{stem}-{key[:16]}.arrow"
    try:
        build_once(path, lambda temporary: _read_all(dataset, split, paths, temporary))
    except LockFileError as error:
        raise ValueError(
            f"{path.parent} is not writable ({error.strerror}); pass a folder for derived files: "
            "--data.cache-dir FOLDER"
        ) from error
    table = ExampleTable(path, spec=dataset.spec)
    # The table stores its problems, so they are reported whether or not it was just written.
    table.problems.check(data.on_bad, table.name)
    return table


def _read_all(dataset: VisionLanguageDataset, split: str, paths: Files, path: Path) -> None:
    problems = Problems()
    examples = dataset.read(split, paths, problems)
    count = write_table(examples, dataset.spec, split, path, problems)
    if problems and not count:
        names = ", ".join(name for role in paths.values() for name in role)
        raise ValueError(
            f"{names}: nothing there is an example of {dataset.spec.name}; use its official "
            f"files. {'; '.join(problems.lines())}"
        )


def _key(dataset: VisionLanguageDataset, split: str, paths: Files) -> str:
    """Compute a digest of everything that the table's content depends on."""
    spec = dataset.spec
    reader = dataset.layout if isinstance(dataset, SpecDataset) else type(dataset)
    parts = {
        "code": source_digest(reader, write_table, example_of),
        "layout": spec.layout,
        "id_rule": spec.id_rule,
        "split": spec.splits[split].model_dump(include={"files", "options"}, mode="json"),
        "files": {role: [identity(path) for path in names] for role, names in paths.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _selected_rows(whole: ExampleTable, part: SplitSpec, paths: Files) -> Rows:
    """Select the rows of ``whole`` for a split with ``first_images`` or ``except_images``.

    Raises:
        ValueError: The file of image ids has fewer ids than the split needs.
    """
    from vlray.tasks.layouts.lxmert import read_image_order

    role, count = part.first_images or part.except_images or ("", 0)
    ids: dict[str, None] = {}
    # A dict drops repeated ids, because count is a number of distinct images.
    for image_id in read_image_order(paths[role][0], whole.spec.id_rule):
        ids[image_id] = None
        # The file may be LXMERT's feature file of many GB: do not read past the last image needed.
        if len(ids) == count:
            break
    if len(ids) < count:
        raise ValueError(
            f"{paths[role][0]} has {len(ids):,} image ids, but the split needs the first "
            f"{count:,}; use the whole file"
        )
    # An example with two images belongs to the split of its first image.
    first = pc.list_element(whole.column("image_ids"), 0)
    is_listed = pc.is_in(first, value_set=pa.array(list(ids), pa.string()))
    # first_images keeps the listed rows, except_images all others.
    mask = is_listed.to_numpy() == (part.first_images is not None)
    return np.flatnonzero(mask).astype(np.int64)
