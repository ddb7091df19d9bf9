"""``vlray.extract``: the main job as a function, for scripts and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlray.config.extract import ExtractConfig
from vlray.settings.options import Path as OptionPath
from vlray.settings.options import flatten, nearest, nest, options_of
from vlray.settings.wording import plain_message
from vlray.stream.run import ExtractResult, extract

_ARGUMENTS = {
    "images": ("images", "root"),
    "out": ("output", "path"),
    "detector": ("detector", "name"),
}


def extract_regions(
    images: str | Path, out: str | Path, detector: str = "lite", **options: Any
) -> ExtractResult:
    """Extract the regions of images into Parquet: the same as ``vlray extract IMAGES OUT``.

    Runs in the Ray that this process is connected to. Otherwise it connects to the running cluster,
    or starts a local Ray that stays until the process ends or calls ``ray.shutdown()``. Calling it
    again with the same arguments finishes what is missing and adds new images. The defaults are the
    package's own: neither ``VLRAY_*`` variables nor ``vlray env`` change them.

    Args:
        images: A directory, an image, a list file, a URI (``s3://...``), or the name of an image
            set.
        out: A folder or URI for the output. It may exist.
        detector: As ``--detector.name``: ``lite``, ``vg-caffe``, ``vg-pbua``, a stored name, a
            Detectron2 ``config.yaml``, or a class of your own.
        options: Any other option of the command by its last part, such as ``max_boxes=10`` or
            ``shard_size=64``, or a section as a mapping: ``cluster={"actors": 4}``.

    Returns:
        What was done: ``images``, ``regions``, ``failed``, ``seconds``, and ``output`` for
        `vlray.open_output`. Images that failed are rows of the output's ``failures/``, not errors.

    Raises:
        ValueError: An option is unknown or has a wrong value, or the settings, the images or the
            output do not allow a start.
        OSError: A file or folder is missing or cannot be read or written.
    """
    values: dict[OptionPath, Any] = {
        _ARGUMENTS["images"]: str(images),
        _ARGUMENTS["out"]: str(out),
        _ARGUMENTS["detector"]: detector,
    }
    for name, value in options.items():
        for path in _option_paths(name, value):
            if path in values:
                raise ValueError(f"{name}: {'.'.join(path)} is given twice")
            values[path] = value if path[-1] == name else flatten({name: value})[path]
    try:
        config = ExtractConfig(**nest(values))
    except ValidationError as error:
        raise ValueError(_first(error)) from error
    return extract(config)


def _option_paths(name: str, value: Any) -> list[OptionPath]:
    """Return the options that a keyword sets.

    Raises:
        ValueError: There is no such option, or several end the same.
    """
    paths = options_of(ExtractConfig)
    if isinstance(value, dict) and name in ExtractConfig.model_fields:
        return list(flatten({name: value}))
    matching = [path for path in paths if path[-1] == name]
    if len(matching) == 1:
        return matching
    if matching:
        names = " or ".join(".".join(path) for path in matching)
        raise ValueError(f"{name} can be {names}; pass its section as a mapping")
    close = nearest(name, [".".join(path) for path in paths])
    hint = (
        f"did you mean {close.rpartition('.')[2]}?" if close else "vlray extract --help lists them"
    )
    raise ValueError(f"vlray.extract has no option {name!r}; {hint}")


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where} is {detail['input']!r}: {plain_message(detail['msg'])}"
