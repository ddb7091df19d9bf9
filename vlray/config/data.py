"""Options that say where datasets' images, annotations and derived files are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from vlray.settings.section import Section


class ImageSetsSection(Section):
    """Where images are; ``vlray env set data.images.coco /data/coco`` says it for good."""

    images: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Folder or URI of each image set, by its name in the catalogue or one of your own
    (``coco=/data/coco``). Not given: ``data.root``/NAME."""

    root: str = ""
    """Folder or URI that has a folder for each image set and each dataset, by their names. Empty:
    ``env.data_dir``."""

    def below(self, data_dir: Path) -> Self:
        """Take ``env.data_dir`` where no root is given."""
        return self if self.root else self.model_copy(update={"root": str(data_dir)})


class DataSection(ImageSetsSection):
    """Where the datasets are; ``vlray env set data.images.coco /data/coco`` says it for good."""

    annotations: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Folder or URI of each dataset's annotation files, by the dataset's name. Not given:
    ``data.root``/NAME."""

    cache_dir: str = ""
    """Local folder for what is made of annotations and regions to read them fast; it can be
    deleted at any time. Empty: ``vlray`` in the user's cache."""

    on_bad: Literal["skip", "stop"] = "skip"
    """What happens when examples cannot be used (a broken line, a duplicated id, an image without
    regions): they are counted, reported and left out, or the command stops."""

    def cache_folder(self) -> Path:
        """Say where derived files are: ``cache_dir``, or ``vlray`` in the user's cache."""
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        import platformdirs

        return Path(platformdirs.user_cache_dir("vlray", appauthor=False))
