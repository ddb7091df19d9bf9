"""Options for the locations of images, annotations and derived files of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from vlray.settings.section import Section


class ImageSetsSection(Section):
    """Locations of images; ``vlray env set data.images.coco /data/coco`` saves a location."""

    images: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Folder or URI of each image set, by its name in the catalogue or your own name
    (``coco=/data/coco``). Default: ``data.root``/NAME."""

    root: str = ""
    """Folder or URI with a folder for each image set and each dataset, named after it. Empty:
    ``env.data_dir``."""

    def below(self, data_dir: Path) -> Self:
        """Return a copy with ``env.data_dir`` as root, if no root is set."""
        return self if self.root else self.model_copy(update={"root": str(data_dir)})


class DataSection(ImageSetsSection):
    """Locations of datasets; ``vlray env set data.images.coco /data/coco`` saves a location."""

    annotations: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Folder or URI of each dataset's annotation files, by the dataset's name. Default:
    ``data.root``/NAME."""

    cache_dir: str = ""
    """Local folder for cached annotations and regions, which make reading fast; it can be deleted
    at any time. Empty: ``vlray`` in the user's cache folder."""

    on_bad: Literal["skip", "stop"] = "skip"
    """What to do with unusable examples (an invalid line, a duplicate id, an image without
    regions): count, report and leave them out (``skip``), or stop with an error (``stop``)."""

    def cache_folder(self) -> Path:
        """Return the folder of derived files: ``cache_dir``, or ``vlray`` in the user's cache."""
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        import platformdirs

        return Path(platformdirs.user_cache_dir("vlray", appauthor=False))
