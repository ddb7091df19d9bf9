"""Where images and boxes are: a path, a URI, or the name of images that were set up once."""

from __future__ import annotations

import logging
from pathlib import Path

from vlray.config.data import ImageSetsSection
from vlray.config.images import ImagesSection
from vlray.storage import files
from vlray.tasks import catalogue
from vlray.tasks.locate import exists, image_set_folder
from vlray.tasks.spec import DatasetSpec

log = logging.getLogger("vlray.stream")


def find_images(images: ImagesSection, data: ImageSetsSection, data_dir: Path) -> ImagesSection:
    """Find the images, and settle what they and their dataset are called.

    What exists under ``images.root`` here, or is a URI, is that. Otherwise it may be the name of an
    image set, or of a dataset, whose folder and id rule are then taken; or a path in ``data_dir``.

    Returns:
        The section with an absolute root and an id rule; those that were given stay.

    Raises:
        FileNotFoundError: It is none of these, or the folder of the image set is not there.
        ValueError: The datasets of the image set disagree on the id rule.
    """
    rule = images.id_rule or "stem"
    if _is_here(images.root):
        return _with(images, absolute(images.root), rule)
    specs = catalogue.all_specs()
    if name := _image_set(images.root, data, specs):
        return _of_set(images, name, data.below(data_dir), specs)
    root = found(images.root, data_dir)
    if root == images.root and _is_name(root):
        raise FileNotFoundError(_describe_unknown(root, data, specs))
    return _with(images, absolute(root), rule)


def found(place: str, data_dir: Path) -> str:
    """Look up a relative path of data that is not in the current folder."""
    stored = data_dir / place
    return str(stored) if not _is_here(place) and stored.exists() else place


def absolute(uri: str) -> str:
    """Make a local path absolute; a URI is."""
    return uri if files.is_uri(uri) else files.resolve(uri)[1]


def _is_here(place: str) -> bool:
    return files.is_uri(place) or Path(place).expanduser().exists()


def _is_name(place: str) -> bool:
    return not (set(place) & set("/\\") or place.startswith((".", "~")) or Path(place).suffix)


def _with(images: ImagesSection, root: str, rule: str, dataset: str = "") -> ImagesSection:
    settled = {"root": root, "id_rule": rule, "dataset": images.dataset or dataset}
    return images.model_copy(update=settled)


def _image_set(place: str, data: ImageSetsSection, specs: list[DatasetSpec]) -> str:
    """Give the image set of that name, or of the dataset of that name; empty: there is none."""
    if place in {*data.images, *(spec.image_set for spec in specs)}:
        return place
    return next((spec.image_set for spec in specs if spec.name == place), "")


def _of_set(
    images: ImagesSection, name: str, data: ImageSetsSection, specs: list[DatasetSpec]
) -> ImagesSection:
    folder = absolute(image_set_folder(name, data))
    if not exists(folder):
        raise FileNotFoundError(
            f"{images.root} names the images {name}, but there is no {folder}; say where they are: "
            f"vlray env set data.images.{name} FOLDER"
        )
    rule = images.id_rule or _rule_of(name, images.root, specs)
    log.info("%s: the images %s in %s, ids by the rule %s", images.root, name, folder, rule)
    return _with(images, folder, rule, dataset=name)


def _rule_of(name: str, place: str, specs: list[DatasetSpec]) -> str:
    """Take the rule of the dataset that was named, or the one of all that have these images."""
    of_set = [spec for spec in specs if spec.image_set == name]
    rules = {spec.id_rule: spec.name for spec in of_set if spec.name == place} or {
        spec.id_rule: spec.name for spec in of_set
    }
    if len(rules) > 1:
        said = ", ".join(f"{rule} ({dataset})" for rule, dataset in rules.items())
        raise ValueError(
            f"the datasets of the images {name} name them by different rules: {said}; say which "
            "with --images.id-rule"
        )
    return next(iter(rules), "stem")


def _describe_unknown(place: str, data: ImageSetsSection, specs: list[DatasetSpec]) -> str:
    known = {*data.images, *(spec.image_set for spec in specs), *(spec.name for spec in specs)}
    refusal = catalogue.refusal("image set or dataset", place, sorted(known))
    return (
        f"there is no {absolute(place)}; give a directory, a list file, an image, or a name that "
        f"stands for images: {refusal}. Yours: vlray env set data.images.{place} FOLDER"
    )
