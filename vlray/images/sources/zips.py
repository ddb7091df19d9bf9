"""Images in zip archives: stored or deflated, with or without zip64."""

from __future__ import annotations

import struct
import zipfile
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

_HEADER = struct.Struct("<4s22xHH")  # of a member: signature, lengths of its name and extra field
_SLACK = 256  # bytes for the name and extra field, so that a member takes one request
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1  # flag


def entries(
    stream: pa.NativeFile, archive: str, fingerprint: Fingerprint, names: NameFilter
) -> Iterator[Entry]:
    """Yield the images in a zip, in the order of its directory.

    A damaged archive yields one entry, for the archive itself, without the name of a member.

    Args:
        stream: The archive.
        archive: Path of the archive, for the paths of its members.
        fingerprint: Fingerprint of the archive.
        names: Selects and counts the names.
    """
    try:
        with zipfile.ZipFile(stream) as file:
            members = file.infolist()
    # A damaged directory makes Python's reader raise several types.
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        yield broken(archive, "", f"the archive is damaged or cut off ({error})", fingerprint)
        return
    for member in members:
        name = member.filename.encode("utf-8", "backslashreplace").decode()
        content = Fingerprint(member.file_size, member.CRC)
        is_out = leads_out(name)
        if member.is_dir() or not (names.is_image(name) if is_out else names.takes(name)):
            continue
        if is_out:
            yield broken(archive, name, LEADS_OUT, content)
        elif member.flag_bits & _ENCRYPTED:
            reason = "the member is encrypted; unpack the archive with its password first"
            yield broken(archive, name, reason, content)
        elif member.compress_type not in _METHODS:
            reason = (
                f"compression method {member.compress_type} is not supported; unpack the archive, "
                "or write it again with the usual compression (deflate)"
            )
            yield broken(archive, name, reason, content)
        else:
            place = (member.header_offset, member.compress_size, member.compress_type)
            sizes = (member.file_size, member.CRC)
            yield Entry(
                f"{archive}{SEPARATOR}{name}",
                name,
                content,
                " ".join(map(str, ("zip", *place, *sizes))),
            )


def read(handle: Handle, place: str) -> bytes:
    """Return the bytes of a member.

    Args:
        handle: The open archive.
        place: Place of the member, ``zip OFFSET STORED_SIZE METHOD SIZE CRC``.

    Raises:
        ImageError: The member is damaged.
    """
    offset, stored, method, size, crc = map(int, place.split(" ")[1:])
    data = handle.read_at(offset, _HEADER.size + _SLACK + stored)
    if len(data) < _HEADER.size or data[:4] != b"PK\3\4":
        raise ImageError("the archive has no member at this place; it is damaged or was replaced")
    _, name_bytes, extra_bytes = _HEADER.unpack_from(data)
    begin = _HEADER.size + name_bytes + extra_bytes
    if missing := begin + stored - len(data):
        data = data + handle.read_at(offset + len(data), missing) if missing > 0 else data
    content = data[begin : begin + stored]
    if method == zipfile.ZIP_DEFLATED:
        content = _inflate(content, size)
    if len(content) != size:
        raise ImageError(f"the member is damaged: {len(content):,} of {size:,} bytes")
    if zlib.crc32(content) != crc:
        raise ImageError("the member is damaged: its checksum (CRC-32) is wrong")
    return content


def _inflate(data: bytes, size: int) -> bytes:
    """Decompress at most the declared size, so that a small member cannot fill the memory."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than declared shows that the declared size is wrong.
        return stream.decompress(data, size + 1)
    except zlib.error as error:
        raise ImageError(f"the member is damaged ({error})") from error
