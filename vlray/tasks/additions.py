"""Add and remove the user's datasets."""

from __future__ import annotations

from pathlib import Path

import yaml

from vlray.settings.code import names_class
from vlray.storage import files
from vlray.tasks import catalogue
from vlray.tasks.layout import load_layout
from vlray.tasks.locate import check_roles
from vlray.tasks.spec import DatasetSpec


def add(source: str, *, trust_code: bool = False) -> tuple[DatasetSpec, Path]:
    """Add a dataset to the catalogue, replacing any user dataset with the same name.

    Args:
        source: A YAML file in the format of `DatasetSpec`, or ``module:Class`` or
            ``path/to/file.py:Class`` of a `VisionLanguageDataset`. Annotation files next to the
            YAML file are used in place, not copied.
        trust_code: Whether to import a layout outside vlray that the YAML file names.

    Returns:
        The dataset's spec, and the path of the file saved in the catalogue.

    Raises:
        ValueError: The source is not a valid dataset, or has the name of a built-in dataset; or the
            YAML file names a layout outside vlray, and ``trust_code`` is off.
        FileNotFoundError: The file does not exist.
    """
    path = Path(source).expanduser()
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; pass the YAML file of a dataset")
        spec = catalogue.parse_spec(path.read_text("utf-8"), str(path))
        if names_class(spec.layout) and not trust_code:
            raise ValueError(
                f"{path} names the layout {spec.layout!r}, and vlray imports no code because a "
                "file names it; if you trust that code, pass --trust-code"
            )
        spec = _with_absolute_paths(spec, path.absolute().parent)
        # Fail now, not at the first use: import the layout and check the roles of every split.
        load_layout(spec.layout)
        for split in spec.splits:
            check_roles(catalogue.SpecDataset(spec), split)
        # A saved file without the defaults follows a later change of a default, as the user's file
        # does.
        values = spec.model_dump(mode="json", exclude_defaults=True)
    else:
        file, colon, name = source.rpartition(":")
        # A relative path would break as soon as a command runs in another folder.
        if colon and file.endswith(".py"):
            source = f"{files.resolve(file)[1]}:{name}"
        spec = catalogue.from_class(source).spec
        # Only the reference is saved: the class is imported again at every use.
        values = {"class": source}
    # `catalogue.find` tries the built-in datasets first, so this one would never be found.
    if spec.name in catalogue.built_in_names():
        raise ValueError(
            f"{spec.name} is a built-in dataset; choose another name for yours "
            f"(name: my-{spec.name})"
        )
    target = catalogue.user_folder() / f"{spec.name}.yaml"
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    fs, target_path = files.resolve(str(target))
    files.write_atomic(fs, target_path, text.encode())
    return spec, target


def remove(name: str) -> None:
    """Remove a user's dataset from the catalogue, but keep its annotation files.

    Raises:
        ValueError: The user has no dataset with that name.
    """
    if name not in catalogue.user_names():
        if name in catalogue.built_in_names():
            raise ValueError(f"{name} is a built-in dataset; only your own can be removed")
        raise ValueError(catalogue.refusal("dataset of your own", name, catalogue.user_names()))
    (catalogue.user_folder() / f"{name}.yaml").unlink()


def _with_absolute_paths(spec: DatasetSpec, folder: Path) -> DatasetSpec:
    """Make paths of files next to the YAML file absolute, because the spec is saved elsewhere."""

    def absolute(name: str) -> str:
        # Files that are not next to the YAML file stay relative to the annotation folder.
        beside = folder / name
        return name if files.is_uri(name) or not beside.exists() else str(beside)

    splits = {
        name: split.model_copy(
            update={
                "files": {
                    role: absolute(named) if isinstance(named, str) else tuple(map(absolute, named))
                    for role, named in split.files.items()
                }
            }
        )
        for name, split in spec.splits.items()
    }
    # A layout given as ``module:function`` is imported by name and has no path.
    layout, colon, function = spec.layout.rpartition(":")
    layout = f"{absolute(layout)}:{function}" if colon and layout.endswith(".py") else spec.layout
    return spec.model_copy(update={"splits": splits, "layout": layout})
