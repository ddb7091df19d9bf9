"""VQA-RAD from its images to the figures of its test split, offline, by the public commands.

    python -m tests.benchmarks.rad --data VQA_RAD          about 30 minutes on two idle cores
    python -m tests.benchmarks.rad --data VQA_RAD --seeds 1 --blind-seeds

VQA_RAD has ``images/``, ``trainset.json`` and ``testset.json``. Regions are the quarters of each
image, in the maps of ``lite``'s backbone. LXMERT starts from MiniLM, is trained on all of the
training split by configs/train/rad-lxmert.yaml, and is tested once; ``blind`` is the same with
--loader.visual none: what the question alone tells. Questions of the test split whose image has a
nearly equal question in the training split are reported apart. Trainings that are done already,
below --work, are not repeated.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.commands import environment, extract_command
from tests.benchmarks.report import print_header, print_table, verdict

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT.parent / "shared" / "fixtures" / "vqa_rad"
CONFIG = ROOT / "configs" / "train" / "rad-lxmert.yaml"
GRID = ("--features", "grid", "--grid-layer", "stages", "--grid-size", "2", "--min-size", "320")
FIGURES = ("overall", "closed", "open", "near", "others")
TARGET = 72.0
NEAR = 0.65
"""Share of equal characters (`difflib`) from which two questions on an image are nearly equal."""


@dataclass(frozen=True)
class Run:
    """A training and its test."""

    visual: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"lxmert-{self.visual}-{self.seed}"


def main() -> None:
    """Read the options, train, test, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=FIXTURE)
    parser.add_argument("--work", type=Path, default=Path("rad"), help="folder for what is made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--blind-seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    args = parser.parse_args()

    print_header("VQA-RAD from images to test figures", sys.argv)
    args.work.mkdir(parents=True, exist_ok=True)
    data, work = args.data.resolve(), args.work.resolve()
    regions = work / "regions"
    call(extract_command(data / "images", regions, *GRID), work, threads=os.cpu_count() or 1)
    runs = [Run("regions", seed) for seed in args.seeds]
    runs += [Run("none", seed) for seed in args.blind_seeds]
    threads = max((os.cpu_count() or 1) // args.jobs, 1)
    with ThreadPoolExecutor(args.jobs) as pool:
        scores = list(pool.map(lambda one: score(one, data, regions, work, threads), runs))
    report(list(zip(runs, scores, strict=True)))


def score(run: Run, data: Path, regions: Path, work: Path, threads: int) -> dict[str, float]:
    """Train and test; return the figures in percent."""
    out, files = work / run.name, work / f"{run.name}-test"
    common = [
        *("--data.annotations", f"vqa-rad={data}", "--data.images", f"vqa-rad={data / 'images'}"),
        *("--env.runs-dir", str(work / "runs")),
    ]
    train = ["vqa-rad:train", str(regions), str(out), "--config", str(CONFIG)]
    train += ["--seed", str(run.seed), "--loader.visual", run.visual]
    call([sys.executable, "-m", "vlray.train", *train, *common], work, threads)
    test = [str(out), "vqa-rad:test", "--output", str(files)]
    call([sys.executable, "-m", "vlray.test", *test, *common], work, threads)
    metrics = json.loads((files / "metrics.json").read_text())
    by_type = {name.lower(): one["value"] for name, one in metrics["by"]["answer_type"].items()}
    overall = metrics["figures"]["exact match"]["value"]
    print(f"{run.name} done", flush=True)
    return {"overall": overall, **by_type, **apart(data, files / "predictions.json")}


def apart(data: Path, predictions: Path) -> dict[str, float]:
    """Return the accuracies on questions with and without a nearly equal training question."""
    answers = json.loads(predictions.read_text())
    asked: dict[str, list[str]] = {}
    for entry in json.loads((data / "trainset.json").read_text()):
        asked.setdefault(entry["image_name"], []).append(words(entry["question"]))
    hits: dict[str, list[bool]] = {"near": [], "others": []}
    for entry in json.loads((data / "testset.json").read_text()):
        question, others = words(entry["question"]), asked.get(entry["image_name"], [])
        is_near = any(
            difflib.SequenceMatcher(None, question, other).ratio() >= NEAR for other in others
        )
        is_right = words(answers[str(entry["qid"])]) == words(entry["answer"])
        hits["near" if is_near else "others"].append(is_right)
    return {name: 100 * statistics.mean(found) for name, found in hits.items()}


def words(text: object) -> str:
    """Return a text in lower case, without punctuation."""
    return re.sub(r"\W+", " ", str(text).lower()).strip()


def report(scored: Sequence[tuple[Run, dict[str, float]]]) -> None:
    """Print each run's figures, their means and spreads, and whether the target is met."""
    rows: list[Sequence[object]] = []
    for visual, label in (("regions", "LXMERT"), ("none", "LXMERT, no image")):
        figures = [one for run, one in scored if run.visual == visual]
        seeds = [run.seed for run, _ in scored if run.visual == visual]
        for seed, one in zip(seeds, figures, strict=True):
            rows.append([f"{label}, seed {seed}", *(float(one[name]) for name in FIGURES)])
        if len(figures) > 1:
            columns = [[float(one[name]) for one in figures] for name in FIGURES]
            rows.append([f"{label}, mean", *map(statistics.mean, columns)])
            rows.append([f"{label}, standard deviation", *map(statistics.stdev, columns)])
    print_table(["VQA-RAD", *FIGURES], rows)
    overall = statistics.mean(one["overall"] for run, one in scored if run.visual == "regions")
    print(f"overall: {overall:.1f}, {verdict(overall, TARGET, at_least=True)}")


def call(command: Sequence[str], work: Path, threads: int) -> None:
    """Run a command; its output is shown only if it fails."""
    values = environment(work.resolve()) | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )


if __name__ == "__main__":
    main()
