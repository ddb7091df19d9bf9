"""List files: one path or URI per line."""

from __future__ import annotations

import codecs
import posixpath

from vlray.storage import files

LIST_EXTENSIONS = frozenset((".txt", ".lst", ".list"))


def read_list(data: bytes, root: str, folder: str) -> list[str]:
    """Return the paths in a list file; absolute paths below its folder become relative.

    Args:
        data: Content of the list file.
        root: Path or URI of the list file, for error messages.
        folder: Folder of the list file.

    Raises:
        ValueError: A path is listed twice, or vlray does not support the scheme of a URI.
    """
    # Some Windows programs save text as UTF-16.
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    text = data.removeprefix(codecs.BOM_UTF8).decode(encoding, "surrogateescape")
    below = folder.rstrip("/") + "/"
    lines: dict[str, int] = {}
    # Not splitlines(): a file name may contain U+2028 and the like.
    for number, line in enumerate(text.split("\n"), start=1):
        path = line.removesuffix("\r")
        if not path or path.isspace():
            continue
        if not path.isascii():
            path = files.escape_bytes(path)
        if files.is_uri(path):
            files.check_listed(path)
        else:
            path = posixpath.normpath(path.removeprefix(below))
        if path in lines:
            raise ValueError(
                f"{root}: line {number} names {path!r} again, after line {lines[path]}; "
                "remove one of the lines, because an image has one id and one row"
            )
        lines[path] = number
    return list(lines)
