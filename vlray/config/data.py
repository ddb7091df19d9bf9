"""Options for the locations of images, annotations and derived files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from vlray.settings.section import Location, Section


class ImageSetsSection(Section):
    """Locations of images; ``vlray env set data.images.coco /data/coco`` stores one for good."""

    images: dict[str, Location] = {}  # noqa: RUF012 - pydantic copies it
    """Folder or URI of each image set, by its name in the catalogue or your own name
    (``coco=/data/coco``). Default: ``data.root``/NAME."""

    root: Location = ""
    """Folder or URI with a subfolder for each image set and dataset, by name. Empty: the value of
    ``env.data_dir``."""

    def below(self, data_dir: Path) -> Self:
        """Use ``env.data_dir`` as the root if none is set."""
        return self if self.root else self.model_copy(update={"root": str(data_dir)})


class DataSection(ImageSetsSection):
    """Locations of datasets; ``vlray env set data.images.coco /data/coco`` stores one for good."""

    annotations: dict[str, Location] = {}  # noqa: RUF012 - pydantic copies it
    """Folder or URI of each dataset's annotation files, by the name of the dataset. Default:
    ``data.root``/NAME."""

    cache_dir: Location = ""
    """Local folder for files derived from annotations and regions, for faster reading; it can be
    deleted at any time. Empty: ``vlray`` in the user's cache."""

    on_bad: Literal["skip-entries", "skip", "stop"] = "skip-entries"
    """Examples that cannot be used (a malformed line, a duplicate id, an image without regions):
    ``skip-entries`` counts, reports and omits them, but ends the command if a file breaks off;
    ``skip`` also uses the examples before such a break; ``stop`` ends the command at any."""

    def cache_folder(self) -> Path:
        """Return the folder of derived files: ``cache_dir``, or ``vlray`` in the user's cache."""
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        # Only for the default folder; --help and most runs do without the package.
        import platformdirs

        return Path(platformdirs.user_cache_dir("vlray", appauthor=False))
