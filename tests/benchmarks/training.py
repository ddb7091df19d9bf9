"""How much of a step is waiting for data, and what 16 bits change; each run is a ``vlray train``.

waiting    LXMERT on files of VQA's size (20,000 made-up images of 36 x 2048 float16, 140,000
           questions; 6 GB), batches of 32. A small model asks for batches faster than a large one.
           share = seconds in which the loop waited for a batch / seconds of the steps, after the
           first ten
precision  LXMERT and VisualBERT of MiniLM's size and from its weights, on VQA-RAD with the regions
           of ``lite``: bf16 beside fp32, the same seeds, fp32 first in every second round.
           examples/s: medians of the steps; bf16's are given as a ratio to those of the same round
           loss: means of the steps of each fifth of the run. "bf16 - fp32" is the mean over the
           seeds, with its standard error; "between seeds" the standard deviation of fp32's

With ``--regions`` and ``--work`` what a run made before is used again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.commands import extract_command, run, shown
from tests.benchmarks.region_files import make
from tests.benchmarks.report import print_header, print_table, verdict

RAD = Path(__file__).parents[2].parent / "shared" / "fixtures" / "vqa_rad"
MOST_WAITED = 5.0  # percent
BATCH, FIRST, FIFTHS = 32, 10, 5

SIZES = {
    "small": [
        "hidden_size=128",
        "num_attention_heads=2",
        "intermediate_size=512",
        "l_layers=2",
        "r_layers=1",
        "x_layers=1",
    ],
    "base": [],
}

Lines = list[dict[str, Any]]


def main() -> None:
    """Run the parts that are asked for, and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=140_000)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--small-steps", type=int, default=400)
    parser.add_argument("--base-steps", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100, help="of a run of precision")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["lxmert", "visualbert"])
    parser.add_argument("--rad", type=Path, default=RAD, help="VQA-RAD: trainset.json and images")
    parser.add_argument("--regions", type=Path, help="of VQA-RAD's images; not given: lite's")
    parser.add_argument("--work", type=Path, help="keep the files here, and take those there are")
    args = parser.parse_args()
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="vlray-training-")
        work = (args.work or Path(stack.enter_context(made))).absolute()
        work.mkdir(parents=True, exist_ok=True)
        print_header(
            f"training: {', '.join(args.parts)}",
            shown([sys.executable, "-m", "tests.benchmarks.training", *sys.argv[1:]]),
        )
        for part in args.parts:
            PARTS[part](work, args)


def waiting(work: Path, args: argparse.Namespace) -> None:
    """Measure how long the loop waits for batches."""
    make(work, args.images, args.questions, tsv=False)
    rows = []
    for size in args.sizes:
        steps = {"small": args.small_steps, "base": args.base_steps}[size]
        lines = train(
            work,
            ["bench-vqa:train", str(work / "regions")],
            [
                *("--data.annotations", f"bench-vqa={work / 'data'}"),
                *("--steps", str(steps)),
                *(flag for field in SIZES[size] for flag in ("--model.architecture", field)),
            ],
        )
        rows.append([f"{size}, {steps} steps", rate(lines), waited(lines)])
    print_table(["LXMERT", "examples/s", "waited for data, %"], rows)
    for name, _, share in rows:
        print(f"{name}: waited {share:.2f} %, {verdict(share, MOST_WAITED)}")
    print(flush=True)


def precision(work: Path, args: argparse.Namespace) -> None:
    """Train in fp32 and in bf16, and compare speed and losses."""
    regions = args.regions or work / "rad"
    if not regions.exists():
        run(extract_command(args.rad / "images", regions, "--detector.name", "lite"), work)
    speeds, losses = [], []
    for model in args.models:
        found: dict[str, list[Lines]] = {"fp32": [], "bf16": []}
        for seed in range(args.seeds):
            for bits in list(found)[:: 1 - 2 * (seed % 2)]:
                lines = train(
                    work,
                    ["vqa-rad:train", str(regions.absolute())],
                    [
                        *("--data.annotations", f"vqa-rad={args.rad.absolute()}"),
                        *("--model.name", model, "--weights", "minilm", "--optim.lr", "3e-4"),
                        *("--precision", bits, "--steps", str(args.steps), "--seed", str(seed)),
                    ],
                )
                found[bits].append(lines)
        rates = {bits: list(map(rate, runs)) for bits, runs in found.items()}
        ratios = [b / f for b, f in zip(rates["bf16"], rates["fp32"], strict=True)]
        medians = [statistics.median(values) for values in (*rates.values(), ratios)]
        speeds.append([model, *medians, min(ratios), max(ratios)])
        losses += [[model, *row] for row in curves(found["fp32"], found["bf16"])]
    print_table(["examples/s", "fp32", "bf16", "bf16 / fp32, median", "least", "most"], speeds)
    names = ["steps", "fp32", "bf16", "bf16 - fp32", "its error", "between seeds"]
    print_table(["loss", *names], losses)


PARTS = {"waiting": waiting, "precision": precision}


def train(work: Path, places: list[str], flags: list[str]) -> Lines:
    """Run a training, and give what it wrote of each step."""
    out, runs = work / "model", work / "runs"
    for folder in (out, runs):
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "vlray.train", *places, str(out), *flags]
    command += ["--batch-size", str(BATCH), "--log-every", "1", "--no-watch.tensorboard"]
    command += ["--env.runs-dir", str(runs), "--data.cache-dir", str(work / "cache")]
    run(command, work, every=0.5)
    (file,) = runs.glob("*/train-*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    said = f"  {' '.join(flags[2:])}: {rate(lines):.1f} examples/s, loss {lines[-1]['loss']:.3f}"
    print(said, file=sys.stderr, flush=True)
    shutil.rmtree(out)
    return lines


def rate(lines: Lines) -> float:
    """Give the median of the steps' examples/s, the first steps left out."""
    return statistics.median(line["examples_per_s"] for line in lines[FIRST:] or lines)


def waited(lines: Lines) -> float:
    """Give the share of the steps' time in which the loop waited, percent."""
    seconds = [BATCH / line["examples_per_s"] for line in lines[FIRST:] or lines]
    waits = [line["waited"] for line in lines[FIRST:] or lines]
    return 100 * sum(map(float.__mul__, seconds, waits)) / sum(seconds)


def curves(fp32: list[Lines], bf16: list[Lines]) -> list[list[object]]:
    """Compare the losses of each fifth of the runs; a row each."""
    rows: list[list[object]] = []
    steps = len(fp32[0])
    for fifth in range(FIFTHS):
        first, last = (steps * place // FIFTHS for place in (fifth, fifth + 1))
        means = [
            [statistics.fmean(line["loss"] for line in lines[first:last]) for lines in runs]
            for runs in (fp32, bf16)
        ]
        differences = [b - f for f, b in zip(*means, strict=True)]
        rows.append(
            [
                f"{first + 1}-{last}",
                *map(statistics.fmean, means),
                statistics.fmean(differences),
                _spread(differences) / len(differences) ** 0.5,
                _spread(means[0]),
            ]
        )
    return rows


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


if __name__ == "__main__":
    main()
