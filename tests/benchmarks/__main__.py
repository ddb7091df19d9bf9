"""All measurements, one after the other, each in a process of its own.

python -m tests.benchmarks                  all of them, about 45 minutes on two cores
python -m tests.benchmarks --quick          a few minutes; the numbers say little
python -m tests.benchmarks listing memory   only these
python -m tests.benchmarks.engine --help    one of them, with its options
"""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHMARKS: dict[str, list[str]] = {  # with the flags that make it quick
    "startup": ["--rounds=1"],
    "archives": ["--rounds=1", "--images=32", "--members=10000"],
    "listing": ["--rounds=1", "--sizes", "1000", "10000"],
    "memory": [],
    "engine": ["--images=40", "--rounds=1"],
    "nodes": ["--images=20", "--rounds=1"],
    "lite_accuracy": ["--images=20"],
    "lite_probe": ["--images=20"],
    "convert": ["--few=50", "--many=400"],
    "forms": ["--images=64"],
    "loader": ["--images=500", "--questions=140000", "--rounds=1"],
    "vg_speed": ["--rounds=1"],
    "vg_precision": ["--images=1"],
    "training": [
        "--images=500",
        "--questions=3000",
        "--small-steps=30",
        "--base-steps=12",
        "--steps=15",
        "--seeds=2",
    ],
    "tune": ["--images=20"],
    "gallery": ["--images=500", "--rounds=1"],
    "gpu": ["--device=cpu", "--quick"],
}


def main() -> None:
    """Run them; one that fails does not keep the others from running."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    failed = []
    for name in args.names or BENCHMARKS:
        flags = BENCHMARKS[name] if args.quick else []
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *flags]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
