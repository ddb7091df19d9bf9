"""Questions about 40 photographs of VQA-RAD: what configs/train/small-data.yaml learns from them.

    python -m tests.benchmarks.small_data --data VQA_RAD     about 10 minutes on one core

For each seed, 40 photographs are drawn; a quarter of their questions is held out, without those
that the rest asks of the same photograph in the same words. ``blind`` is the same with
--loader.visual none. The number of epochs was chosen on the first seed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.rad import FIXTURE, ROOT, call
from tests.benchmarks.report import print_header, print_table, verdict

PHOTOGRAPHS = 40
CONFIG = ROOT / "configs" / "train" / "small-data.yaml"

Question = dict[str, Any]


def main() -> None:
    """Read the options, train, test, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=FIXTURE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    print_header(f"questions about {PHOTOGRAPHS} photographs", sys.argv)
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        for seed in args.seeds:
            folder = Path(name, str(seed))
            train, test = draw(args.data, folder, seed)
            majority = Counter(_words(one["answer"]) for one in train).most_common(1)[0][0]
            frequent = statistics.mean(_words(one["answer"]) == majority for one in test)
            scores = [score(folder, visual, seed) for visual in ("regions", "none")]
            rows.append([seed, len(train), len(test), 100 * frequent, *scores])
    print_table(["seed", "trained on", "held out", "most frequent answer", "model", "blind"], rows)
    beaten = min(float(str(row[4])) - float(str(row[3])) for row in rows)
    print(
        f"better than the most frequent answer: {beaten:.1f}, {verdict(beaten, 0, at_least=True)}"
    )


def draw(data: Path, folder: Path, seed: int) -> tuple[list[Question], list[Question]]:
    """Write VQA-RAD's files for 40 photographs; return the questions to train and to test on."""
    questions = json.loads((data / "trainset.json").read_text())
    names = sorted({one["image_name"] for one in questions})
    chance = random.Random(seed)
    chosen = set(chance.sample(names, PHOTOGRAPHS))
    mine = [one for one in questions if one["image_name"] in chosen]
    chance.shuffle(mine)
    test, train = mine[: len(mine) // 4], mine[len(mine) // 4 :]
    asked = {(one["image_name"], _words(one["question"])) for one in train}
    test = [one for one in test if (one["image_name"], _words(one["question"])) not in asked]
    (folder / "images").mkdir(parents=True)
    for name in chosen:
        (folder / "images" / name).symlink_to(data.resolve() / "images" / name)
    (folder / "trainset.json").write_text(json.dumps(train))
    (folder / "testset.json").write_text(json.dumps(test))
    return train, test


def score(folder: Path, visual: str, seed: int) -> float:
    """Extract, train and test; return the exact match in percent."""
    regions, out = folder / "regions", folder / f"model-{visual}"
    tested = folder / f"{visual}-tested"
    runs = ["--env.runs-dir", str(folder / "runs")]
    common = [*("--data.annotations", f"vqa-rad={folder}"), *runs]
    common += ["--data.images", f"vqa-rad={folder / 'images'}"]
    extract = [str(folder / "images"), str(regions), "--min-boxes", "10", *runs]
    _vlray(folder, "extract", *extract, "--cluster.address", "none")
    train = ["vqa-rad:train", str(regions), str(out), "--config", str(CONFIG)]
    _vlray(folder, "train", *train, "--seed", str(seed), "--loader.visual", visual, *common)
    _vlray(folder, "test", str(out), "vqa-rad:test", "--output", str(tested), *common)
    metrics = json.loads((tested / "metrics.json").read_text())
    return float(metrics["figures"]["exact match"]["value"])


def _vlray(folder: Path, command: str, *arguments: str) -> None:
    call([sys.executable, "-m", f"vlray.{command}", *arguments], folder, threads=1)


def _words(text: object) -> str:
    return re.sub(r"\W+", " ", str(text).lower()).strip()


if __name__ == "__main__":
    main()
