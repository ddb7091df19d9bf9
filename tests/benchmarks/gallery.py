"""How fast the gallery page of many images is in Chromium, and the picture of the README.

python -m tests.benchmarks.gallery                        10,000 images with 36 regions each
python -m tests.benchmarks.gallery --picture PAGE FILE    draw PAGE as the README's picture, a PNG

opened     milliseconds from the start of the navigation to the first paint, to the grid with boxes
           on placeholders, and to all thumbnails in the window
frames     milliseconds between frames while scrolling down a grid of 60 images, 60 pixels a frame
turned     milliseconds until the next 60 images are drawn
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.benchmarks.photographs import link_photographs
from tests.benchmarks.report import print_header, print_table
from tests.fixtures.browser import ARGS
from vlray.gallery.entries import Entry
from vlray.gallery.page import page
from vlray.gallery.pictures import Picture, placeholder
from vlray.gallery.run import FILE_SIZE
from vlray.pages.labels import Names
from vlray.pages.pictures import thumbnail

WINDOW = {"width": 1280, "height": 860}
# Runs before the page: notes when something is there, by the page's own clock.
NOTE = """
window.times = {};
const note = (name) => { times[name] ??= Math.round(performance.now()); };
new PerformanceObserver((list) => { times.paint ??= Math.round(list.getEntries()[0].startTime); })
  .observe({ type: "paint", buffered: true });
const look = () => {
  const cards = [...document.querySelectorAll("#grid .card")];
  if (cards.length) note("grid");
  const inWindow = cards.filter((card) => card.getBoundingClientRect().top < innerHeight);
  const seen = inWindow.every((card) => card.querySelector("img")?.naturalWidth);
  if (cards.length && seen) note("thumbnails");
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
SCROLL = """async () => {
  const times = [];
  let last = performance.now();
  for (let y = 0; y <= document.documentElement.scrollHeight - innerHeight; y += 60) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - last);
    last = performance.now();
  }
  return times.slice(1);
}"""
TURN = """async () => {
  const times = [];
  for (let k = 0; k < 10; k++) {
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn, 0)));
    times.push(performance.now() - start);
  }
  return times;
}"""


def main() -> None:
    """Read the options, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", nargs=2, type=Path, metavar=("PAGE", "FILE"))
    args = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="vlray-") as name:
        path = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        if args.picture:
            draw_picture(browser, *args.picture)
        else:
            measure(browser, Path(name), args.images, args.rounds)
        browser.close()


def measure(browser: Browser, folder: Path, images: int, rounds: int) -> None:
    size = write_page(folder, images)
    print_header(
        f"gallery of {images:,} images: a page of {size / 1e6:.1f} MB, {rounds} rounds",
        ["python", "-m", "tests.benchmarks.gallery", "--images", str(images)],
    )
    visits = [visit(browser, folder / "index.html") for _ in range(rounds)]
    rows = [
        (
            name,
            *(
                f"{number([one[name] for one in visits]):.0f}"
                for number in (statistics.median, max)
            ),
        )
        for name in visits[0]
    ]
    print_table(("", "median", "highest"), rows)


def visit(browser: Browser, path: Path) -> dict[str, float]:
    """Open the page once, scroll and turn its pages; return what was measured."""
    context = browser.new_context(viewport=WINDOW)
    tab = context.new_page()
    tab.add_init_script(NOTE)
    tab.goto(path.as_uri())
    tab.wait_for_function("() => window.times.thumbnails && window.times.paint")
    times: dict[str, Any] = tab.evaluate("window.times")
    memory = renderer_mib()
    first, again = np.array(tab.evaluate(SCROLL)), np.array(tab.evaluate(SCROLL))
    turned = tab.evaluate(TURN)
    result = {
        "opened: first paint, ms": times["paint"],
        "opened: grid, ms": times["grid"],
        "opened: thumbnails, ms": times["thumbnails"],
        "frames: median, ms": float(np.median(first)),
        "frames: 95 %, ms": float(np.quantile(first, 0.95)),
        "frames the second time: 95 %, ms": float(np.quantile(again, 0.95)),
        "turned: median, ms": statistics.median(turned),
        "memory of the page after opening, MiB": memory,
        "memory after scrolling and ten pages, MiB": renderer_mib(),
    }
    context.close()
    return result


def renderer_mib() -> float:
    """Return the resident memory of Chromium's largest page process."""
    processes = psutil.Process().children(recursive=True)
    pages = [one for one in processes if "--type=renderer" in one.cmdline()]
    return max(one.memory_info().rss for one in pages) / 2**20


def write_page(folder: Path, images: int) -> int:
    """Write a page of photographs with random boxes, and their thumbnails; return its bytes."""
    rng = np.random.default_rng(0)
    link_photographs(folder / "photographs", 60)
    thumbnails, colours, sizes = [], [], []
    for path in sorted((folder / "photographs").rglob("*.*"))[:60]:
        with Image.open(path) as image:
            pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        thumbnails.append(thumbnail(pixels, FILE_SIZE))
        colours.append(Picture(placeholder(pixels)))
        sizes.append(pixels.shape[:2])
    (folder / "thumbnails").mkdir()
    entries, pictures = [], []
    for index, k in zip(range(images), itertools.cycle(range(len(sizes)))):
        (folder / "thumbnails" / f"{index:012d}.jpg").write_bytes(thumbnails[k])
        entries.append(random_entry(f"{index:012d}", *sizes[k], rng))
        pictures.append(colours[k])
    totals = {"images": images, "regions": 36 * images, "labels": 1600, "few": 0, "failures": 0}
    about = {"dataset": "many", "detector": "none", "date": "", "min_score": 0.3, "min_boxes": 36}
    about |= {"totals": totals, "parts": [["index.html", 1, images]], "part": 0, "settings": []}
    about |= {"failures": [], "annotated": "", "thumbnails": "thumbnails"}
    names = Names(tuple(f"object {k}" for k in range(1600)), tuple(f"kind {k}" for k in range(400)))
    files = [f"{entry.image_id}.jpg" for entry in entries]
    return (folder / "index.html").write_bytes(page(entries, names, files, pictures, about))


def random_entry(image_id: str, height: int, width: int, rng: np.random.Generator) -> Entry:
    corner = rng.uniform(0, 0.7, (36, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.05, 0.3, (36, 2))], axis=1)
    return Entry(
        image_id,
        f"{image_id}.jpg",
        "",
        height,
        width,
        (boxes * [width, height, width, height]).astype(np.float32),
        rng.integers(0, 1600, 36).astype(np.int32),
        np.sort(rng.uniform(0, 1, 36).astype(np.float32) ** 2)[::-1],
        rng.integers(0, 400, 36).astype(np.int32),
        rng.uniform(0, 0.4, 36).astype(np.float32),
    )


def draw_picture(browser: Browser, path: Path, target: Path) -> None:
    """Draw the page in a window that just holds its grid, with 256 colours."""
    tab = browser.new_page(viewport={"width": 1280, "height": 830}, color_scheme="light")
    tab.goto(path.resolve().as_uri())
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.card img')].every((image) => image.naturalWidth)"
    )
    with Image.open(io.BytesIO(tab.screenshot())) as shot:
        shot.convert("RGB").quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main()
