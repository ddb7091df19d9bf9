"""Run many damaged inputs and random command lines, and count how they end."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.child import Outcome, run
from tests.fuzz.command_lines import command_line
from tests.fuzz.inputs import INPUTS, Input, _boxes, _output, _pipeline, _tsv10


@dataclass
class Campaign:
    """Counts of outcomes by input, and the cases that ended badly.

    Attributes:
        seed: Seed of the first case; the same seed repeats the campaign.
        findings: Folder that keeps the files and the console of each bad case.
    """

    seed: int
    findings: Path
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    bad: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def mutations(self, number: int) -> None:
        """Damage the inputs in turn."""
        with _scratch() as scratch:
            for item in INPUTS:
                (scratch / "valid" / item.name).mkdir(parents=True)
                item.write(scratch / "valid" / item.name)
            _preload(scratch)
            for index in range(number):
                item, random = INPUTS[index % len(INPUTS)], Random(f"{self.seed} {index}")
                folder = scratch / "case"
                damaged = item.damage(scratch / "valid" / item.name, folder, random)
                os.environ["VLRAY_HOME"] = str(folder if item.name == "env" else scratch / "home")
                outcome = run(item.main, item.argv, folder)
                case = f"mutation {index}: {damaged}; {' '.join(item.argv)}"
                self._count(item.name, outcome, folder, case)

    def command_lines(self, number: int) -> None:
        """Try random command lines in a folder with valid inputs."""
        with _scratch() as scratch:
            valid = scratch / "valid"
            valid.mkdir()
            for write in (_tsv10, _boxes, _output):
                write(valid)
            shutil.copytree(valid / "photos", scratch / "photos")
            shutil.rmtree(valid / "photos")
            _pipeline(valid)
            for index in range(number):
                folder = scratch / "case"
                shutil.copytree(valid, folder)
                os.environ["VLRAY_HOME"] = str(folder / "home")
                main, argv = command_line(Random(f"{self.seed} {index}"))
                outcome = run(main, argv, folder)
                self._count(main.__module__, outcome, folder, f"command line {index}: {argv!r}")

    def _count(self, name: str, outcome: Outcome, folder: Path, case: str) -> None:
        self.counts[name][outcome.kind] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        if outcome.is_good:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self.bad.append(f"{outcome.kind}: {name}: {case}\n{outcome.text[-1500:]}")
        self.findings.mkdir(parents=True, exist_ok=True)
        place = self.findings / f"{len(self.bad):04d}-{outcome.kind}-{name.replace(' ', '-')}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.move(folder, place)
        (place / "case.txt").write_text(case + "\n", errors="replace")


def _preload(scratch: Path) -> None:
    """Import what the commands import, once instead of in every child."""
    listing = scratch / "modules.txt"
    for item in INPUTS:

        def main(argv: list[str], item: Input = item) -> None:
            try:
                item.main(argv)
            finally:
                with listing.open("a") as lines:
                    lines.writelines(f"{name}\n" for name in sys.modules)

        shutil.copytree(scratch / "valid" / item.name, scratch / "case")
        os.environ["VLRAY_HOME"] = str(scratch / "home")
        run(main, item.argv, scratch / "case")
        shutil.rmtree(scratch / "case")
    for name in dict.fromkeys(listing.read_text().split()):
        # Ray and torch start threads, which do not survive a fork.
        if name.partition(".")[0] not in ("__main__", "ray", "torch", "torchvision"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


class _scratch:  # noqa: N801 - used as a function
    """A temporary folder, in which an empty home is VLRAY_HOME."""

    def __enter__(self) -> Path:
        self._before = os.environ.get("VLRAY_HOME")
        self._folder = Path(tempfile.mkdtemp(prefix="vlray-fuzz-"))
        return self._folder

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.environ.pop("VLRAY_HOME", None)
        if self._before is not None:
            os.environ["VLRAY_HOME"] = self._before


def rows(campaign: Campaign) -> Iterator[tuple[str, int, str]]:
    """Yield the table of a campaign: input, number of cases, and how they ended."""
    for name, counter in campaign.counts.items():
        ends = ", ".join(f"{count} {kind}" for kind, count in counter.most_common())
        yield name, counter.total(), ends
