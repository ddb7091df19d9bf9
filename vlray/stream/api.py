"""``vlray.extract``: extraction as a function, for scripts and notebooks."""

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
    """Extract regions from images to Parquet, as ``vlray extract IMAGES OUT`` does.

    The function uses the Ray connection of this process, if any, or else a running cluster. Without
    either, a few images are processed in this process (``cluster={"address": "none"}``), and more
    images start a local Ray, which runs until the process ends or calls ``ray.shutdown()``.
    A second call with the same arguments resumes an unfinished extraction and adds new images.
    ``VLRAY_*`` variables and ``vlray env`` do not change the defaults.

    Args:
        images: A directory, an image, a list file, a URI (``s3://...``), or the name of an image
            set.
        out: Folder or URI of the output, which may already exist.
        detector: Same as ``--detector.name``: ``lite``, ``vg-caffe``, ``vg-pbua``, a stored name, a
            Detectron2 ``config.yaml``, or a class of your own.
        options: Other options of the command. Pass an option by the last part of its name
            (``max_boxes=10``), or a section as a mapping (``cluster={"actors": 4}``).

    Returns:
        The counts ``images``, ``regions`` and ``failed``, the duration ``seconds``, and ``output``,
        the argument for `vlray.open_output`. A failed image raises no error, but becomes a row in
        the output's ``failures/``.

    Raises:
        ValueError: An option is unknown or has an invalid value, or the images or the output do not
            match the options.
        OSError: A file or folder is missing, or cannot be read or written.
    """
    values: dict[OptionPath, Any] = {
        _ARGUMENTS["images"]: str(images),
        _ARGUMENTS["out"]: str(out),
        _ARGUMENTS["detector"]: detector,
    }
    for name, value in options.items():
        # A mapping sets several options, and any of them may also be passed by its short name.
        for path in _option_paths(name, value):
            if path in values:
                raise ValueError(f"{name}: {'.'.join(path)} is set twice; pass it once")
            values[path] = value if path[-1] == name else flatten({name: value})[path]
    try:
        config = ExtractConfig(**nest(values))
    except ValidationError as error:
        raise ValueError(_first(error)) from error
    return extract(config)


def _option_paths(name: str, value: Any) -> list[OptionPath]:
    """Return the paths of the options that a keyword argument sets.

    Raises:
        ValueError: The option is unknown, or its short name is ambiguous.
    """
    paths = options_of(ExtractConfig)
    if isinstance(value, dict) and name in ExtractConfig.model_fields:
        return list(flatten({name: value}))
    matching = [path for path in paths if path[-1] == name]
    if len(matching) == 1:
        return matching
    if matching:
        names = " or ".join(".".join(path) for path in matching)
        raise ValueError(f"{name} is ambiguous: it can be {names}; pass the section as a mapping")
    close = nearest(name, [".".join(path) for path in paths])
    lists = "vlray extract --help-all lists them"
    hint = f"did you mean {close.rpartition('.')[2]}?" if close else lists
    raise ValueError(f"vlray.extract has no option {name!r}; {hint}")


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where} is {detail['input']!r}: {plain_message(detail['msg'])}"
