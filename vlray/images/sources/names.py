"""Which names of files and members are images, and which ones are left out."""

from __future__ import annotations

import copy
import fnmatch
import posixpath
import re
from collections import Counter
from collections.abc import Collection
from itertools import accumulate

EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
    )
)
"""Lower-case extensions of image files."""

EXTENSION_NAMES = " ".join(sorted(EXTENSIONS))
"""The same, as one text for messages."""

OTHER_EXTENSIONS = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".psd", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
        *(".orf", ".raf", ".rw2", ".pef", ".srw"),
    )
)
"""Lower-case extensions of image files that vlray does not read."""

EXCLUDED = ("@eaDir", "__MACOSX")
"""Folders of thumbnails and metadata that file servers and archivers add; always left out."""


class NameFilter:
    """Selects the images among the names of a source, and counts the others.

    Attributes:
        skipped: Number of non-image files, keyed by lower-case extension.
        excluded: Number of files and folders that a pattern leaves out.
    """

    def __init__(self, exclude: Collection[str] = (), always: Collection[str] = EXCLUDED) -> None:
        """Prepare the patterns.

        Args:
            exclude: Patterns of names or relative paths to leave out.
            always: Further patterns, which the user did not choose.
        """
        self.skipped: Counter[str] = Counter()
        self.excluded = 0
        # One regular expression: a listing may have millions of names.
        patterns = (fnmatch.translate(pattern.rstrip("/")) for pattern in (*always, *exclude))
        # Without any pattern, one that matches nothing.
        self._excluded = re.compile("|".join(patterns) or r"(?!)").match

    def is_image(self, name: str) -> bool:
        """Return whether a file has an image extension; if not, count it in ``skipped``."""
        extension = posixpath.splitext(name)[1].lower()
        if extension in EXTENSIONS:
            return True
        self.skipped[extension] += 1
        return False

    def is_excluded(self, path: str, name: str) -> bool:
        """Return whether a pattern matches the name or the relative path; if so, count it."""
        if not (self._excluded(name) or self._excluded(path)):
            return False
        self.excluded += 1
        return True

    def is_left_out(self, relative: str) -> bool:
        """Return whether a path is hidden, excluded, or in such a folder."""
        return relative.startswith(".") or "/." in relative or self.is_below_excluded(relative)

    def is_below_excluded(self, relative: str) -> bool:
        """Return whether a pattern matches a path or a folder above it; if so, count it."""
        parts = relative.split("/")
        prefixes = accumulate(parts, "{}/{}".format)
        return any(map(self.is_excluded, prefixes, parts))

    def takes(self, relative: str) -> bool:
        """Return whether a path is that of an image and not left out."""
        return not self.is_left_out(relative) and self.is_image(relative)

    def fork(self) -> NameFilter:
        """Return a filter with the same patterns that counts on its own, for another thread."""
        fork = copy.copy(self)
        fork.skipped, fork.excluded = Counter(), 0
        return fork
