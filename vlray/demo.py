"""``vlray demo [FOLDER]``: extract regions from sample photographs and make a gallery page."""

from __future__ import annotations

import argparse
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from vlray.runs.session import REFUSED, Session

# Photographs from scikit-image's wheel, public domain or CC0 (skimage/data/README.txt).
PHOTOS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
)

MIN_SCORE = 0.82
"""Minimum score of the boxes that the page shows first; its slider shows the others.

From this score on, the embedded detector's boxes on these photographs have the right label and fit
their object. Just below it, at 0.80, is a box around half of the cat.
"""


def main(argv: list[str] | None = None) -> None:
    """Copy sample photographs, extract regions from them, and make the gallery."""
    parser = argparse.ArgumentParser(
        "vlray demo",
        description="Copy sample photographs of scikit-image to FOLDER/photos, extract their "
        "regions to FOLDER/regions, and make the gallery page FOLDER/regions/gallery/index.html.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        default="demo",
        type=Path,
        metavar="FOLDER",
        help="(default: demo)",
    )
    with Session("demo"):
        _show_main_job(parser.parse_args(argv).folder)


def _show_main_job(folder: Path) -> None:
    """Run ``vlray extract`` and ``vlray view`` on the photographs, in this process."""
    photos, regions = folder / "photos", folder / "regions"
    copy_photos(photos)
    from vlray.extract import main as extract
    from vlray.view import main as view

    runs = ["--env.runs-dir", str(folder / "runs")]
    arguments = [str(photos), str(regions), "--min-boxes", "10", *runs]
    try:
        _run("extract", extract, arguments)
    except SystemExit as ended:
        if ended.code != REFUSED or not regions.exists():
            raise
        # The folder belongs to the demo, so its regions may be replaced.
        print(
            "The existing regions were extracted with other settings; "
            "removing them and extracting again:"
        )
        shutil.rmtree(regions)
        _run("extract", extract, arguments)
    _run("view", view, [str(regions), "--min-score", str(MIN_SCORE), *runs])


def copy_photos(folder: Path) -> None:
    """Copy the sample photographs from the installed scikit-image package.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
    spec = find_spec("skimage")  # find the folder without the slow import
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the demo needs the photographs of scikit-image: pip install scikit-image"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        if not (folder / name).exists():
            shutil.copyfile(Path(spec.origin).parent / "data" / name, folder / name)


def _run(name: str, command: Callable[[list[str]], None], arguments: list[str]) -> None:
    print(f"\n$ vlray {name} {shlex.join(arguments)}", flush=True)
    command(arguments)


if __name__ == "__main__":
    main()
