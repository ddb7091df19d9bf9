"""Original sizes of the images, from the photographs or from a file of sizes."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from PIL import ExifTags, Image

from vlray.images.ids import image_ids
from vlray.images.listing import Listing
from vlray.images.sources.names import EXTENSIONS
from vlray.images.splits import ALL
from vlray.storage import files

HeightWidth = tuple[int, int]

_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True, eq=False)
class Photograph:
    """Path, split and size of one original image.

    Attributes:
        path: Path relative to the photographs' root. If there is no photograph: the id in the
            file, with ``.jpg`` appended unless the id ends with an image suffix.
        split: The option ``split``; if it is empty, the split of the photograph's folder, or
            ``all`` if there is no photograph.
        image_hw: Height and width of the original image, in pixels; None if unknown.
        flag: ``photograph-missing``, ``photograph-unreadable`` or "".
    """

    path: str
    split: str
    image_hw: HeightWidth | None
    flag: str = ""


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs and sizes for the images in a file; both may be empty.

    Attributes:
        root: Folder or URI of the photographs.
        split: Split of all images; if empty, the split of each photograph's folder.
        sizes: Heights and widths, keyed by image id; they override the photographs' sizes.
    """

    root: str = ""
    split: str = ""
    sizes: dict[str, HeightWidth] = field(default_factory=dict)
    _files: dict[str, tuple[str, str]] | None = None  # paths and splits, keyed by image id

    @classmethod
    def of(
        cls, listing: Listing | None, sizes: dict[str, HeightWidth] | None = None, split: str = ""
    ) -> Photographs:
        """Combine a listing of photographs with sizes from a file; either may be None."""
        if listing is None:
            return cls(split=split, sizes=sizes or {})
        columns = [listing.table[name].to_pylist() for name in ("image_id", "path", "split")]
        entries = {image_id: (path, part) for image_id, path, part in zip(*columns, strict=True)}
        return cls(listing.root, split, sizes or {}, entries)

    def __contains__(self, image_id: str) -> bool:
        """Return whether there is an image file with this id."""
        return self._files is not None and image_id in self._files

    def look_up(self, image_id: str, raw_id: str) -> Photograph:
        """Look up an image by id; ``raw_id`` is the image's id in the file."""
        size = self.sizes.get(image_id)
        if self._files is None:
            return Photograph(_likely_path(raw_id), self.split or ALL, size)
        if image_id not in self._files:
            path = _likely_path(raw_id)
            return Photograph(path, self.split or ALL, size, "photograph-missing")
        path, part = self._files[image_id]
        size = size or _size_of(self.root, path)
        return Photograph(path, self.split or part, size, "" if size else "photograph-unreadable")


def _likely_path(raw_id: str) -> str:
    return raw_id if PurePath(raw_id).suffix.lower() in EXTENSIONS else f"{raw_id}.jpg"


def renamer(rule: str) -> Callable[[str], str]:
    """Return the function that maps ids in the file to image ids, for a value of ``--id-rule``."""
    return (lambda raw: raw) if rule == "keep" else (lambda raw: image_ids([raw], rule)[0])


def read_sizes(path: Path, rule: str) -> dict[str, HeightWidth]:
    """Read the file passed as ``--sizes``.

    Args:
        path: COCO's JSON, a CSV or TSV with the columns id, height and width, or VinVL's
            ``hw.tsv``.
        rule: The option ``id_rule``. For a COCO image, it is applied to the id and the file name.

    Returns:
        Heights and widths in pixels, keyed by image id.

    Raises:
        ValueError: The file has none of these formats, or has no sizes.
    """
    rename = renamer(rule)
    sizes: dict[str, HeightWidth] = {}
    try:
        for names, height, width in _size_rows(path):
            for name in filter(None, names):
                try:
                    sizes.setdefault(rename(name), (int(height), int(width)))
                except ValueError:
                    # A COCO image has an id and a file name; it is enough if one matches the rule.
                    if len(names) == 1:
                        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"--sizes {path} cannot be read ({error!r}); pass COCO's JSON (images with id, height "
            "and width), a CSV with the columns id,height,width, or VinVL's hw.tsv"
        ) from error
    if not sizes:
        raise ValueError(f"--sizes {path} contains no sizes; pass a file with id, height and width")
    return sizes


def _size_rows(path: Path) -> Iterable[tuple[list[str], Any, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".json":
            document = json.load(stream)
            for image in document["images"] if isinstance(document, dict) else document:
                name = Path(image.get("file_name", "")).stem
                yield [str(image["id"]), name], image["height"], image["width"]
            return
        first = stream.readline()
        stream.seek(0)
        if "\t" in first and "{" in first:  # VinVL: key, then [{"height": .., "width": ..}]
            for line in stream:
                key, _, text = line.partition("\t")
                size = json.loads(text)
                size = size[0] if isinstance(size, list) else size
                yield [key], size["height"], size["width"]
            return
        # CSV or TSV with a header.
        for row in csv.DictReader(stream, delimiter="\t" if "\t" in first else ","):
            yield [row["id"]], row["height"], row["width"]


def _size_of(root: str, path: str) -> HeightWidth | None:
    """Read a photograph's size after EXIF rotation, without decoding its pixels."""
    try:
        fs, full_path = files.locate(root, path)
        is_local = files.is_local(fs)
        source = files.restore_bytes(full_path) if is_local else fs.open_input_file(full_path)
        with warnings.catch_warnings(), Image.open(source) as image:
            warnings.simplefilter("ignore")
            turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # a damaged file can raise anything, depending on the decoder
        return None
