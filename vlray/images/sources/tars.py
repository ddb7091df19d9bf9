"""Images in tar archives, such as the shards of WebDataset and img2dataset."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from vlray.images.decode import ImageError
from vlray.images.sources.entry import LEADS_OUT, SEPARATOR, Entry, broken, leads_out
from vlray.images.sources.names import NameFilter
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    from vlray.images.sources.handles import Handle


def entries(
    stream: gzip.GzipFile | pa.NativeFile,
    archive: str,
    fingerprint: Fingerprint,
    names: NameFilter,
) -> Iterator[Entry]:
    """Yield the images in a tar, in their order.

    A damaged or cut-off archive yields the members before the damage, and then an entry for the
    archive itself, without the name of a member.

    Args:
        stream: The archive, decompressed.
        archive: Path of the archive, for the paths of its members.
        fingerprint: Fingerprint of the archive.
        names: Selects and counts the names.
    """
    size = None if isinstance(stream, gzip.GzipFile) else stream.size()
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                end = member.offset_data + member.size
                # It keeps all headers that it has read, about 1 kB each; there is no public way to
                # drop them.
                tar.members.clear()  # type: ignore[attr-defined] # not in its stubs
                name = _plain(member.name)
                content = Fingerprint(member.size, fingerprint.mtime_ns)
                if not member.isreg() or member.issparse():
                    continue
                if leads_out(name):
                    if names.is_image(name):
                        yield broken(archive, name, LEADS_OUT, content)
                elif not names.takes(name):
                    continue
                elif size is not None and end > size:
                    yield broken(archive, name, "the archive is cut off in this member", content)
                else:
                    path = f"{archive}{SEPARATOR}{name}"
                    yield Entry(path, name, content, f"tar {member.offset_data} {member.size}")
            problem = _problem_at(stream, tar.offset)
    # Python's reader raises several types for damaged headers and compressed data.
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        after = end if size is None else min(end, size)
        problem = f"the archive is damaged or cut off after {after:,} bytes ({error})"
    if problem:
        yield broken(archive, "", problem, fingerprint)


def _plain(name: str) -> str:
    """Return a name as UTF-8, without the ``./`` that ``tar -C folder .`` adds."""
    return name.removeprefix("./").encode("utf-8", "backslashreplace").decode()


def _problem_at(stream: gzip.GzipFile | pa.NativeFile, offset: int) -> str:
    """Return why the archive ends at an offset: empty if it has its end marker there.

    ``tarfile`` treats a damaged header as the end, so members after it would be lost silently.
    """
    stream.seek(offset)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) == tarfile.BLOCKSIZE and not any(block):
        return ""
    # Some writers omit the marker of zeros: an archive that ends here is not known to be damaged.
    # `tarfile` itself advances by one block when it meets the marker.
    if not block:
        return ""
    return f"the archive is damaged after {offset:,} bytes: no header of a member begins there"


def read(handle: Handle, place: str) -> bytes:
    """Return the bytes of a member.

    Args:
        handle: The open archive.
        place: Place of the member, ``tar OFFSET SIZE``.

    Raises:
        ImageError: The archive is cut off.
    """
    _, offset, size = place.split(" ")
    data = handle.read_at(int(offset), int(size))
    if len(data) < int(size):
        raise ImageError(f"the archive is cut off: {len(data):,} of the {int(size):,} bytes")
    return data
