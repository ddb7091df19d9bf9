"""Read tensors from files of ``torch.save`` without torch, and without running code from them.

Both layouts are read: archives (PyTorch 1.6 and later) and the former one, in which the numbers
follow the pickle. The pickle is opened by an unpickler that knows only containers and tensors, and
the numbers of a tensor are read from the file when they are asked for.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vlray.formats.readers.bounds import check_bytes
from vlray.storage.pickles import ArrayUnpickler

_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_PICKLE = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_ZIP = b"PK\x03\x04"
_COUNT_BYTES = 8  # the number of values before those of a storage

_STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _Storage:
    """The numbers that tensors share."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class Tensor:
    """A tensor whose numbers are still in the file; `TensorFile.array` reads them."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_torch_file(path: Path) -> bool:
    """Return whether a file begins as one of ``torch.save``."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(len(_MAGIC_PICKLE))
    if head == _MAGIC_PICKLE:
        return True
    if head[:4] != _ZIP:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


class TensorFile:
    """A file of ``torch.save``.

    Args:
        path: The file.

    Attributes:
        content: What was saved, with a `Tensor` in the place of each tensor.

    Raises:
        ValueError: The file is damaged, or holds something else than containers and tensors.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: Mapping[str, int] = {}  # of each storage in the former layout
        self._prefix = ""
        try:
            with path.open("rb") as file:
                if file.read(4) == _ZIP:
                    self.content: Any = self._read_archive()
                else:
                    file.seek(0)
                    self.content = self._read_former(file)
        except Exception as error:  # zipfile and pickle can raise anything on damaged data
            raise ValueError(f"{path} cannot be read as a file of torch.save: {error}") from error

    def array(self, tensor: object) -> np.ndarray:
        """Read the numbers of a tensor; arrays are returned as they are.

        Raises:
            ValueError: The object is not a tensor, or exceeds its storage.
        """
        if isinstance(tensor, np.ndarray):
            return tensor
        if not isinstance(tensor, Tensor):
            raise ValueError(f"a {type(tensor).__name__} is in the place of a tensor")
        storage, size = tensor.storage, tensor.storage.dtype.itemsize
        if not math.prod(tensor.shape):
            return np.zeros(tensor.shape, storage.dtype)
        steps = zip(tensor.shape, tensor.strides, strict=True)
        count = 1 + sum((length - 1) * stride for length, stride in steps)
        if tensor.offset < 0 or min(tensor.strides, default=0) < 0:
            raise ValueError("a tensor begins before its storage")
        if tensor.offset + count > storage.count:
            raise ValueError("a tensor is larger than its storage")
        check_bytes(max(count, math.prod(tensor.shape)) * size, "a tensor")
        data = self._bytes(storage, tensor.offset * size, count * size)
        if len(data) != count * size:
            raise ValueError("the file is cut off within a tensor")
        values = np.frombuffer(data, storage.dtype)
        strides = [stride * size for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(values, tensor.shape, strides).copy()

    def _bytes(self, storage: _Storage, start: int, size: int) -> bytes:
        if self._offsets:
            with self._path.open("rb") as file:
                file.seek(self._offsets[storage.key] + start)
                return file.read(size)
        with zipfile.ZipFile(self._path) as archive:
            info = archive.getinfo(f"{self._prefix}data/{storage.key}")
            check_bytes(info.file_size if info.compress_type else size, info.filename)
            with archive.open(info) as file:
                file.seek(start)
                return file.read(size)

    def _read_archive(self) -> object:
        with zipfile.ZipFile(self._path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            self._prefix = name.removesuffix("data.pkl")
            check_bytes(archive.getinfo(name).file_size, name)
            return _Unpickler(io.BytesIO(archive.read(name)), encoding="utf-8").load()

    def _read_former(self, file: BinaryIO) -> object:
        if _load(file) != _MAGIC:
            raise ValueError("it does not begin with the magic number")
        for _ in range(2):  # version, and the machine that wrote the file
            _load(file)
        unpickler = _Unpickler(file, encoding="utf-8")
        content = unpickler.load()
        offsets: dict[str, int] = {}
        keys = _load(file)
        place = file.tell()
        for key in keys:
            storage = unpickler.storages[str(key)]
            offsets[storage.key] = place + _COUNT_BYTES
            place += _COUNT_BYTES + storage.count * storage.dtype.itemsize
        self._offsets = offsets
        return content


def _load(file: BinaryIO) -> Any:
    return _Unpickler(file, encoding="utf-8").load()


class _Unpickler(ArrayUnpickler):
    """Unpickler for containers, arrays and tensors; anything else could run code."""

    def __init__(self, file: BinaryIO, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the substitute for a class or function of torch."""
        if module == "torch" and name in _STORAGES:
            return np.dtype(_STORAGES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a persistent id describes."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise ValueError(f"an entry of the kind {kind!r} is not supported")
        if type(count) is not int or count < 0:
            raise ValueError(f"a storage has {count!r} values")
        return self.storages.setdefault(str(key), _Storage(str(key), dtype, count))


def _rebuild(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
    if not isinstance(storage, _Storage) or type(offset) is not int:
        raise ValueError("a tensor has no storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor has no shape")
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in (*shape, *strides)):
        raise ValueError(f"a tensor has the shape {shape} and the strides {strides}")
    return Tensor(storage, offset, shape, strides)
