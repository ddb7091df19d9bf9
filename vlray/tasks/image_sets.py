"""Find images by path, by URI, or by the name of an image set or dataset."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from vlray.config.data import ImageSetsSection
from vlray.config.images import ImagesSection
from vlray.storage import files
from vlray.tasks import catalogue
from vlray.tasks.locate import exists, image_set_folder
from vlray.tasks.spec import DatasetSpec

log = logging.getLogger("vlray.stream")


def find_images(images: ImagesSection, data: ImageSetsSection, data_dir: Path) -> ImagesSection:
    """Resolve the image root, the id rule and the name of the dataset.

    ``images.root`` is interpreted as the first of these that applies: a URI or an existing path;
    the name of an image set or dataset, which defines the folder and the id rule; a path in
    ``data_dir``.

    Returns:
        ``images`` with an absolute root and an id rule. Values set by the user are kept.

    Raises:
        FileNotFoundError: Nothing with that name exists, or the image set's folder is missing.
        ValueError: The datasets of the image set have different id rules, and none is chosen.
    """
    check_names("images", data.images)
    rule = images.id_rule or "stem"
    # An existing path takes precedence over an image set with the same name.
    if _is_here(images.root):
        return _with(images, absolute(images.root), rule)
    specs = catalogue.all_specs()
    if name := _image_set(images.root, data, specs):
        return _of_set(images, name, data.below(data_dir), specs)
    root = resolve_path(images.root, data_dir)
    # A word without a slash or extension was probably meant as a name: list the names.
    if root == images.root and _is_name(root):
        raise FileNotFoundError(_describe_unknown(root, data, specs))
    return _with(images, absolute(root), rule)


def check_names(kind: str, names: Iterable[str]) -> None:
    """Check that no image set is named as a dataset with other images, and the reverse.

    Args:
        kind: ``images`` or ``annotations``, as in ``data.images.NAME``.
        names: Names of image sets or of datasets.

    Raises:
        ValueError: A name is of the other kind; the message names the right one.
    """
    names = list(names)
    if not names:
        return
    specs = catalogue.all_specs()
    image_sets, datasets = {spec.image_set for spec in specs}, {spec.name: spec for spec in specs}
    for name in names:
        if kind == "images" and name in datasets and name not in image_sets:
            image_set = datasets[name].image_set
            raise ValueError(
                f"data.images.{name}: {name} is a dataset, whose images are the image set "
                f"{image_set}; set data.images.{image_set}"
            )
        if kind == "annotations" and name in image_sets and name not in datasets:
            users = [spec.name for spec in specs if spec.image_set == name]
            raise ValueError(
                f"data.annotations.{name}: {name} is the image set of {', '.join(users)}; set "
                f"data.annotations.{users[0]} for annotations, data.images.{name} for images"
            )


def resolve_path(path: str, data_dir: Path) -> str:
    """Look up a path in the current folder, then in ``data_dir``; if missing, return it as is."""
    stored = data_dir / path
    return str(stored) if not _is_here(path) and stored.exists() else path


def absolute(uri: str) -> str:
    """Make a local path absolute; return a URI unchanged."""
    return uri if files.is_uri(uri) else files.resolve(uri)[1]


def _is_here(path: str) -> bool:
    # URIs are not looked up here: that would need a connection to their storage.
    return files.is_uri(path) or Path(path).expanduser().exists()


def _is_name(text: str) -> bool:
    return not (set(text) & set("/\\") or text.startswith((".", "~")) or Path(text).suffix)


def _with(images: ImagesSection, root: str, rule: str, dataset: str = "") -> ImagesSection:
    update = {"root": root, "id_rule": rule, "dataset": images.dataset or dataset}
    return images.model_copy(update=update)


def _image_set(name: str, data: ImageSetsSection, specs: list[DatasetSpec]) -> str:
    """Return the image set named ``name``, else that of the dataset named ``name``, else empty."""
    if name in {*data.images, *(spec.image_set for spec in specs)}:
        return name
    return next((spec.image_set for spec in specs if spec.name == name), "")


def _of_set(
    images: ImagesSection, name: str, data: ImageSetsSection, specs: list[DatasetSpec]
) -> ImagesSection:
    folder = absolute(image_set_folder(name, data))
    if not exists(folder):
        raise FileNotFoundError(
            f"{images.root} names the image set {name}, but its folder {folder} does not exist; "
            f"set it with: vlray env set data.images.{name} FOLDER"
        )
    rule = images.id_rule or _rule_of(name, images.root, specs)
    log.info("%s: image set %s in %s, id rule %s", images.root, name, folder, rule)
    return _with(images, folder, rule, dataset=name)


def _rule_of(name: str, dataset: str, specs: list[DatasetSpec]) -> str:
    """Return the id rule of the named dataset, else the one shared by all datasets of the set."""
    of_set = [spec for spec in specs if spec.image_set == name]
    rules = {spec.id_rule: spec.name for spec in of_set if spec.name == dataset} or {
        spec.id_rule: spec.name for spec in of_set
    }
    if len(rules) > 1:
        listed = ", ".join(f"{rule} ({owner})" for rule, owner in rules.items())
        raise ValueError(
            f"the datasets of image set {name} have different id rules: {listed}; choose one "
            "with --images.id-rule"
        )
    return next(iter(rules), "stem")


def _describe_unknown(name: str, data: ImageSetsSection, specs: list[DatasetSpec]) -> str:
    names = {*data.images, *(spec.image_set for spec in specs), *(spec.name for spec in specs)}
    refusal = catalogue.refusal("image set or dataset", name, sorted(names))
    return (
        f"{absolute(name)} does not exist; pass a directory, a list file, an image, or the name of "
        f"an image set: {refusal}. To add one: vlray env set data.images.{name} FOLDER"
    )
