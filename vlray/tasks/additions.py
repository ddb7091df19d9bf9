"""The user's own datasets: added to the catalogue once, known by name from then on."""

from __future__ import annotations

from pathlib import Path

import yaml

from vlray.storage import files
from vlray.tasks import catalogue
from vlray.tasks.layout import load_layout
from vlray.tasks.locate import check_roles
from vlray.tasks.spec import DatasetSpec


def add(source: str) -> tuple[DatasetSpec, Path]:
    """Add a dataset, in the place of one of the user's own that has its name.

    Args:
        source: A YAML file (the form of `DatasetSpec`; annotation files that are beside it are
            found there), or ``module:Class`` or ``path/to/file.py:Class`` of a
            `VisionLanguageDataset`.

    Returns:
        What it says, and the file that now keeps it.

    Raises:
        ValueError: It is no dataset, or its name is one of vlray's own.
        FileNotFoundError: There is no such file.
    """
    path = Path(source).expanduser()
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}; give the YAML file of a dataset")
        spec = catalogue.parse_spec(path.read_text("utf-8"), str(path))
        spec = _with_places(spec, path.absolute().parent)
        load_layout(spec.layout)
        for split in spec.splits:
            check_roles(catalogue.SpecDataset(spec), split)
        values = spec.model_dump(mode="json", exclude_defaults=True)
    else:
        file, colon, name = source.rpartition(":")
        if colon and file.endswith(".py"):
            source = f"{files.resolve(file)[1]}:{name}"
        spec = catalogue.from_class(source).spec
        values = {"class": source}
    if spec.name in catalogue.built_in_names():
        raise ValueError(
            f"{spec.name} is a dataset that vlray brings; give yours another name "
            f"(name: my-{spec.name})"
        )
    target = catalogue.user_folder() / f"{spec.name}.yaml"
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    fs, place = files.resolve(str(target))
    files.write_atomic(fs, place, text.encode())
    return spec, target


def remove(name: str) -> None:
    """Take a dataset of the user's own out of the catalogue; its files stay.

    Raises:
        ValueError: It is none of the user's.
    """
    if name not in catalogue.user_names():
        if name in catalogue.built_in_names():
            raise ValueError(f"{name} is a dataset that vlray brings; only your own are removed")
        raise ValueError(catalogue.refusal("dataset of your own", name, catalogue.user_names()))
    (catalogue.user_folder() / f"{name}.yaml").unlink()


def _with_places(spec: DatasetSpec, folder: Path) -> DatasetSpec:
    """Make the names of files that are beside the YAML file absolute: it is copied away."""

    def place(name: str) -> str:
        beside = folder / name
        return name if files.is_uri(name) or not beside.exists() else str(beside)

    splits = {
        name: split.model_copy(
            update={
                "files": {
                    role: place(named) if isinstance(named, str) else tuple(map(place, named))
                    for role, named in split.files.items()
                }
            }
        )
        for name, split in spec.splits.items()
    }
    layout, colon, function = spec.layout.rpartition(":")
    layout = f"{place(layout)}:{function}" if colon and layout.endswith(".py") else spec.layout
    return spec.model_copy(update={"splits": splits, "layout": layout})
