"""Images in tar archives, such as the shards of WebDataset and img2dataset."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from vlray.images.decode import ImageError
from vlray.images.sources.ahead import Ahead
from vlray.images.sources.entry import LEADS_OUT, SEPARATOR, Entry, broken, leads_out
from vlray.images.sources.names import NameFilter
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    from vlray.images.sources.handles import Handle

KIND, PACKED = "tar", "tar.gz"  # of the places of members


class _Member(NamedTuple):
    name: str
    offset: int  # of its content
    size: int
    is_file: bool


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
        stream: The archive; a compressed one decompressed.
        archive: Path of the archive, for the paths of its members.
        fingerprint: Fingerprint of the archive.
        names: Selects and counts the names.
    """
    kind, size, end = PACKED, None, 0
    file: gzip.GzipFile | Ahead = stream
    if not isinstance(stream, gzip.GzipFile):
        kind, size, file = KIND, stream.size(), Ahead(stream)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload] # `Ahead` only reads
            for member in _members(tar, file):
                end = member.offset + member.size
                name = _plain(member.name)
                content = Fingerprint(member.size, fingerprint.mtime_ns)
                if not member.is_file:
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
                    yield Entry(path, name, content, f"{kind} {member.offset} {member.size}")
            problem = _problem_at(file, tar.offset)
    # Python's reader raises several types for damaged headers and compressed data.
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        after = end if size is None else min(end, size)
        problem = f"the archive is damaged or cut off after {after:,} bytes ({error})"
    if problem:
        yield broken(archive, "", problem, fingerprint)


def _members(tar: tarfile.TarFile, file: gzip.GzipFile | Ahead) -> Iterator[_Member]:
    """Yield all members; plain headers, which most are, without Python's slower reader."""
    count = 0
    while (found := tar.next()) is not None:
        # It keeps all headers that it has read, about 1 kB each; there is no public way to drop
        # them.
        tar.members.clear()  # type: ignore[attr-defined] # not in its stubs
        is_file = found.isreg() and not found.issparse()
        yield _Member(found.name, found.offset_data, found.size, is_file)
        # Headers in a compressed archive cannot be read again. Global names apply to all members.
        while isinstance(file, Ahead) and not tar.pax_headers:
            count += 1
            file.expect(count, tar.offset)
            file.seek(tar.offset)
            member = _plain_member(file.read(tarfile.BLOCKSIZE), tar.offset)
            if member is None:
                file.seek(0)  # `tarfile` looks for a cut-off member only if it has to seek
                break
            yield member
            blocks = -(-member.size // tarfile.BLOCKSIZE)
            tar.offset = member.offset + blocks * tarfile.BLOCKSIZE


def _plain_member(header: bytes, offset: int) -> _Member | None:
    """Return the member of a header; None if `tarfile` has to read it.

    It has to read long names, sizes beyond 8 GiB, links, damage and the end.
    """
    magic, kind, digits = header[257:263], header[156:157], header[124:136].strip(b"\0 ")
    prefix = header[345:500].rstrip(b"\0")
    if magic[:5] != b"ustar" or kind not in (b"0", b"\0") or not digits.isdigit():
        return None
    if prefix and magic != b"ustar\0":
        return None
    checksum = header[148:156].strip(b"\0 ")
    # The checksum counts its own eight bytes as spaces.
    if not checksum.isdigit() or int(checksum, 8) != sum(header) - sum(header[148:156]) + 256:
        return None
    name = header[:100].partition(b"\0")[0]
    if name.endswith(b"/"):
        return None
    whole = (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")
    return _Member(whole, offset + tarfile.BLOCKSIZE, int(digits, 8), True)


def _plain(name: str) -> str:
    """Return a name as UTF-8, without the ``./`` that ``tar -C folder .`` adds."""
    return name.removeprefix("./").encode("utf-8", "backslashreplace").decode()


def _problem_at(stream: gzip.GzipFile | Ahead, offset: int) -> str:
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
        place: Place of the member, ``tar OFFSET SIZE`` or, in a compressed archive,
            ``tar.gz OFFSET SIZE``.

    Raises:
        ImageError: The archive is cut off.
    """
    _, offset, size = place.split(" ")
    data = handle.read_at(int(offset), int(size))
    if len(data) < int(size):
        raise ImageError(f"the archive is cut off: {len(data):,} of the {int(size):,} bytes")
    return data
