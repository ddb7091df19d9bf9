"""``vlray demo [FOLDER]``: the main job on photographs, from nothing to a page to look at."""

from __future__ import annotations

import argparse
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from vlray.runs.session import REFUSED, Session

# Of scikit-image's wheel: in the public domain or CC0 (skimage/data/README.txt).
PHOTOS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
)


def main(argv: list[str] | None = None) -> None:
    """Copy photographs into a folder, extract their regions, and make the gallery."""
    parser = argparse.ArgumentParser(
        "vlray demo",
        description="Copy photographs out of scikit-image into FOLDER/photos, extract their "
        "regions into FOLDER/regions, and make the gallery in FOLDER/regions/gallery.",
    )
    parser.add_argument(
        "folder", nargs="?", default="demo", type=Path, metavar="FOLDER", help="default: demo"
    )
    with Session("demo"):
        _show_main_job(parser.parse_args(argv).folder)


def _show_main_job(folder: Path) -> None:
    """Run the commands on the photographs, in this process."""
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
        print("An earlier version made these regions; they are the demo's own, so once more:")
        shutil.rmtree(regions)
        _run("extract", extract, arguments)
    _run("view", view, [str(regions), *runs])


def copy_photos(folder: Path) -> None:
    """Copy the photographs out of the installed scikit-image.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "the demo's photographs come with scikit-image: pip install scikit-image"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        if not (folder / name).exists():
            shutil.copyfile(Path(found.origin).parent / "data" / name, folder / name)


def _run(name: str, command: Callable[[list[str]], None], arguments: list[str]) -> None:
    print(f"\n$ vlray {name} {shlex.join(arguments)}", flush=True)
    command(arguments)


if __name__ == "__main__":
    main()
