"""How many of LXMERT's 9,500 answers a model can be right about.

    python -m tests.benchmarks.pretraining_answers all_ans.json

The file is data/lxmert/all_ans.json of https://github.com/airsplay/lxmert. Each answer is read as
an annotation of itself: it must become its own class, and the metric must count it as right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks.report import print_header, print_table
from vlray.tasks import catalogue
from vlray.tasks.answers import SoftScore, answer_name
from vlray.tasks.example import Answers, Example
from vlray.tasks.labels import LabelSpace
from vlray.tasks.metrics import score

RULES: tuple[SoftScore, ...] = ("vqa", "lxmert-pretraining")


def main() -> None:
    """Read the file, print a row for each rule."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.pretraining_answers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("answers", type=Path, help="all_ans.json")
    names = LabelSpace.from_file(parser.parse_args().answers).names
    print_header(f"{len(names):,} answers of LXMERT's pretraining", sys.argv)
    metric = catalogue.find("vgqa").spec.metric
    examples = [
        Example(str(number), "?", ("1",), Answers((name,))) for number, name in enumerate(names)
    ]
    known = frozenset(names)
    rows = []
    for rule in RULES:
        classes = [answer_name(name, rule, known) for name in names]
        lost = sum(name not in known for name in classes)
        other = sum(a != b and b in known for a, b in zip(names, classes, strict=True))
        found = score(metric, examples, {str(n): name for n, name in enumerate(classes)})
        rows.append((rule, f"{lost:,}", f"{other:,}", f"{found.values[metric]:.2f}"))
    print_table(("rule", "never a class", "another class", metric), rows)


if __name__ == "__main__":
    main()
