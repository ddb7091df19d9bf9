"""VQA-RAD from its images to the figures of its test split, offline, by the public commands.

    python -m tests.benchmarks.rad --data VQA_RAD          about 50 minutes on two cores
    python -m tests.benchmarks.rad --data VQA_RAD --seeds 1 --models visualbert

VQA_RAD has ``images/``, ``trainset.json`` and ``testset.json``. Regions are ``lite``'s vectors of
the whole image and of its 4, 9 and 16 equal parts (`vlray extract --boxes`). Each model starts from
MiniLM, is trained on all of the training split by configs/train/rad-MODEL.yaml, and is tested once;
``blind`` is the same with --loader.visual none: what the question alone tells. Trainings that are
done already, below --work, are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.benchmarks.commands import environment, extract_command
from tests.benchmarks.report import print_header, print_table, verdict

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT.parent / "shared" / "fixtures" / "vqa_rad"
FIGURES = {"overall": 70.0, "closed": 77.0, "open": 59.0}  # to be reached


@dataclass(frozen=True)
class Run:
    """A training and its test."""

    model: str
    visual: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.model}-{self.visual}-{self.seed}"


def main() -> None:
    """Read the options, train, test, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=FIXTURE)
    parser.add_argument("--work", type=Path, default=Path("rad"), help="folder for what is made")
    parser.add_argument("--models", nargs="+", default=["visualbert", "lxmert"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--blind-seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    args = parser.parse_args()

    print_header("VQA-RAD from images to test figures", sys.argv)
    args.work.mkdir(parents=True, exist_ok=True)
    regions = extract(args.data.resolve(), args.work.resolve())
    runs = [Run(model, "regions", seed) for seed in args.seeds for model in args.models]
    runs += [Run(model, "none", seed) for seed in args.blind_seeds for model in args.models]
    threads = max((os.cpu_count() or 1) // args.jobs, 1)
    with ThreadPoolExecutor(args.jobs) as pool:
        scores = list(
            pool.map(lambda one: score(one, args.data, regions, args.work, threads), runs)
        )
    for model in args.models:
        report(model, [pair for pair in zip(runs, scores, strict=True) if pair[0].model == model])


def extract(data: Path, work: Path) -> Path:
    """Write the boxes and let ``lite`` pool them; what is there already stays."""
    boxes, regions = work / "boxes.jsonl", work / "regions"
    with boxes.open("w") as file:
        for path in sorted((data / "images").iterdir()):
            with Image.open(path) as image:
                parts = [box for number in (1, 2, 3, 4) for box in tiles(*image.size, number)]
            file.write(json.dumps({"image_id": path.stem, "boxes": parts}) + "\n")
    command = extract_command(data / "images", regions, "--boxes", str(boxes))
    call(command, work, threads=os.cpu_count() or 1)
    return regions


def tiles(width: int, height: int, number: int) -> list[list[float]]:
    """Cut an image into ``number`` x ``number`` equal boxes (x1, y1, x2, y2), in pixels."""
    return [
        [
            column * width / number,
            row * height / number,
            (column + 1) * width / number,
            (row + 1) * height / number,
        ]
        for row in range(number)
        for column in range(number)
    ]


def score(run: Run, data: Path, regions: Path, work: Path, threads: int) -> dict[str, float]:
    """Train and test; give the figures in percent, and minutes."""
    out, files = (work / run.name).resolve(), (work / f"{run.name}-test").resolve()
    common = [
        "--data.annotations", f"vqa-rad={data.resolve()}",
        "--data.images", f"vqa-rad={data.resolve() / 'images'}",
        "--env.runs-dir", str(work.resolve() / "runs"),
    ]  # fmt: skip
    config = ROOT / "configs" / "train" / f"rad-{run.model}.yaml"
    train = ["vqa-rad:train", str(regions), str(out), "--config", str(config)]
    train += ["--seed", str(run.seed), "--loader.visual", run.visual]
    call([sys.executable, "-m", "vlray.train", *train, *common], work, threads)
    test = [str(out), "vqa-rad:test", "--output", str(files)]
    call([sys.executable, "-m", "vlray.test", *test, *common], work, threads)
    metrics = json.loads((files / "metrics.json").read_text())
    by_type = {name.lower(): one for name, one in metrics["by"]["answer_type"].items()}
    print(f"{run.name} done", flush=True)
    return {"overall": metrics["figures"]["exact match"]["value"]} | {
        name: by_type[name]["value"] for name in ("closed", "open")
    }


def report(model: str, scored: Sequence[tuple[Run, dict[str, float]]]) -> None:
    """Print each run's figures, their mean and spread, and whether the targets are met."""
    rows: list[Sequence[object]] = []
    for run, figures in scored:
        label = f"{model}, {'no image' if run.visual == 'none' else 'regions'}, seed {run.seed}"
        rows.append([label, *(float(figures[name]) for name in FIGURES)])
    seen = [figures for run, figures in scored if run.visual == "regions"]
    means = {name: statistics.mean(one[name] for one in seen) for name in FIGURES}
    rows.append([f"{model}, regions, mean", *means.values()])
    if len(seen) > 1:
        spread = [statistics.stdev(one[name] for one in seen) for name in FIGURES]
        rows.append([f"{model}, regions, standard deviation", *spread])
    print_table([model, *FIGURES], rows)
    for name, target in FIGURES.items():
        print(f"{name}: {means[name]:.1f}, {verdict(means[name], target, at_least=True)}")


def call(command: Sequence[str], work: Path, threads: int) -> None:
    """Run a command; its words are shown only where it fails."""
    values = environment(work.resolve()) | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )


if __name__ == "__main__":
    main()
