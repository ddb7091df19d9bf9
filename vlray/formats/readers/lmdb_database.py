"""An LMDB database that is read from the first to the last key in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb

DATA = "data.mdb"
_MAGIC = b"\xde\xc0\xef\xbe"  # after the header of the first page
_MAGIC_AT = 16
# Bytes of values to copy before the database is closed and reopened: the pages that were read
# count towards this process's memory as long as the database is open.
_CHUNK = 8 * 2**20


def has_magic(source: Path) -> bool:
    """Return whether a folder or file has LMDB's magic number; its content is not checked."""
    path = source / DATA if source.is_dir() else source
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


class Database:
    """A database whose values are images, but for one key, which lists the others.

    Args:
        source: The folder with ``data.mdb``, or such a file.
        keys: The key of the list of keys.

    Raises:
        ValueError: The file is damaged, or shorter than its header states.
    """

    def __init__(self, source: Path, keys: bytes) -> None:
        self._source, self._keys = source, keys
        with self.open() as env, env.begin() as txn:
            self._check_whole(env)
            self.images = txn.stat()["entries"] - (txn.get(keys) is not None)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if there is no such key."""
        with self.open() as env, env.begin() as txn:
            value: bytes | None = txn.get(key)
            return value

    def items(self, position: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in key order, from the image with this number on."""
        last: bytes | None = None
        while chunk := self._read_chunk(last, 0 if last is not None else position):
            yield from chunk
            last = chunk[-1][0]

    def open(self) -> lmdb.Environment:
        """Open the database for reading.

        Raises:
            ValueError: The file is not an LMDB database.
        """
        try:
            return lmdb.open(
                str(self._source),
                subdir=self._source.is_dir(),
                readonly=True,
                create=False,
                lock=False,  # the database is only read
                readahead=False,
                max_readers=1,
            )
        except lmdb.Error as error:
            raise ValueError(f"{self._source} cannot be opened as LMDB: {error}") from error

    def _check_whole(self, env: lmdb.Environment) -> None:
        """Refuse a truncated file: reading past the end would crash the process (SIGBUS).

        Raises:
            ValueError: The file is shorter than its header states.
        """
        path = self._source / DATA if self._source.is_dir() else self._source
        actual = path.stat().st_size
        expected = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if actual < expected:
            raise ValueError(
                f"{path} is truncated ({actual:,} of {expected:,} bytes); copy it again"
            )

    def _read_chunk(self, last: bytes | None, skip: int) -> list[tuple[bytes, bytes]]:
        """Copy the next keys and values.

        Args:
            last: Start after this key; None: at the first key.
            skip: Number of images to skip first.
        """
        chunk: list[tuple[bytes, bytes]] = []
        copied = 0
        with self.open() as env, env.begin() as txn, txn.cursor() as cursor:
            if last is None:
                more = cursor.first()
            else:
                more = cursor.set_range(last)
                if more and cursor.key() == last:
                    more = cursor.next()
            # Only the keys of skipped images are read, not the values.
            while more and copied < _CHUNK:
                if cursor.key() == self._keys:
                    pass
                elif skip:
                    skip -= 1
                else:
                    chunk.append(cursor.item())
                    copied += len(chunk[-1][1])
                more = cursor.next()
        return chunk
