"""Whether our scores are the official evaluations' own, question by question, and how fast.

    python -m tests.benchmarks.scorers --vqa FOLDER --nlvr FOLDER --gqa FILE [--python2 PROGRAM]

None of their code is part of vlray; give your own copies:

    git clone https://github.com/GT-Vision-Lab/VQA    --vqa VQA
    git clone https://github.com/lil-lab/nlvr         --nlvr nlvr
    gqa_eval.py of https://github.com/MILVLG/openvqa (the makers' eval.py, as a class)    --gqa

Annotations and predictions are random, answers dirty on purpose: punctuation, articles, forgotten
apostrophes, numbers, other alphabets, line breaks, nothing at all. NLVR's and NLVR2's examples are
their own dev sets. VQA's script is run by Python 2, for which it was written; a copy with two
`print` lines in the form that both Pythons know is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.report import print_header, print_table
from vlray.tasks import predictions
from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts import gqa as gqa_layout
from vlray.tasks.layouts import nlvr
from vlray.tasks.metrics import Metrics, score
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Layout

PIECES = """
    yes no none two ten 10 1,000 2,3 3.5 .5 a an the The dont doesn't somebody'd its wheres
    y'alld've 'ow'sat red blue Frisbee t-shirt on/off 50% $5 (left) [x] 10:30 U.S.A. mr. wait...
    no! up? `q` "q" a_b <tag> @home x;y 9=9 {c} back\\slash +1 - , ... caf\u00e9
    \u4e00\u4e8c \u0663 \u0663,\u0664 STRASSE \u00dc
""".split()  # noqa: SIM905 - one a line would fill a page
OTHER_SPELLINGS = {
    **{"two": "2", "ten": "10", "none": "0", "zero": "none", "10": "ten", "1,000": "1000"},
    **{"dont": "don't", "wheres": "where's", "y'alld've": "yall'd've", "'ow'sat": "ow's'at"},
    **{"somebody'd": "somebodyd", "U.S.A.": "USA", "on/off": "on off", "t-shirt": "t shirt"},
    **{"\u0663,\u0664": "\u0663 \u0664", "\u00dc": "\u00fc", "3.5": "35", "2,3": "23"},
}
"""What a prediction has instead, so that a rule that is missing on one side makes a difference."""

SPACED = ["", "line\nbreak", "\ttab\t", "  spaced  ", "rock & roll", "." * 40]

VQA_DRIVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from vqaEval import VQAEval
given = json.load(open(sys.argv[2]))
class Side(object):
    def __init__(self, qa): self.qa = dict((int(key), value) for key, value in qa.items())
    def getQuesIds(self): return sorted(self.qa)
run = VQAEval(Side(given["truth"]), Side(given["predicted"]), n=12)
run.evaluate()
json.dump({"accuracy": run.accuracy, "each": run.evalQA}, open(sys.argv[3], "w"))
"""

GQA_DRIVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
sys.modules["tqdm"] = type(sys)("tqdm")
sys.modules["tqdm"].tqdm = lambda items: items
from gqa_eval import GQAEval
run = GQAEval(None, sys.argv[2], sys.argv[3], sys.argv[4], EVAL_CONSISTENCY=True)
json.dump(run.scores, open(sys.argv[5], "w"))
"""

Row = tuple[str, str, float, float, str, float]  # the difference as text and as a number


def main() -> None:
    """Read the options, score with theirs and with ours, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.scorers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--vqa", type=Path, help="folder with PythonEvaluationTools/")
    parser.add_argument("--nlvr", type=Path, help="folder with nlvr/ and nlvr2/")
    parser.add_argument("--gqa", type=Path, help="gqa_eval.py")
    parser.add_argument("--python2", default="python2", help="what runs VQA's script")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=214_354, help="questions to take the time of")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    print_header("Our scores beside the official ones", sys.argv)
    rng = random.Random(args.seed)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.vqa:
            rows += compare_vqa(args.vqa, args.python2, args.questions, rng, folder)
        if args.nlvr:
            rows += compare_nlvr(args.nlvr, rng, folder)
        if args.gqa:
            rows += compare_gqa(args.gqa, args.questions, rng, folder)
    if rows:
        print_table(
            ("script", "figure", "theirs", "ours", "difference"), [row[:-1] for row in rows]
        )
    print_time(args.many, rng)
    worst = max((row[-1] for row in rows), default=0.0)
    if worst > 1e-9:
        sys.exit(f"a figure differs by {worst}")


def dirty(rng: random.Random) -> str:
    """Make an answer that has to be normalized."""
    text = rng.choice(("", " ", ", ", "-", ".", ",")).join(
        rng.choices(PIECES + SPACED, k=rng.randint(1, 3))
    )
    return rng.choice((text, text, text.upper(), text + ".", "the " + text))


def respelled(text: str) -> str:
    """Write the pieces of an answer in another way, most of which count as the same."""
    for piece, other in OTHER_SPELLINGS.items():
        text = text.replace(piece, other)
    return text


def vqa_examples(count: int, rng: random.Random) -> tuple[list[Example], dict[str, str]]:
    """Make questions with ten answers, and a prediction each that is often one of these."""
    examples, predicted = [], {}
    for number in range(count):
        pool = [dirty(rng) for _ in range(rng.choice((1, 2, 3, 6)))]
        about = {
            "question_type": rng.choice(("what is", "how many", "is the")),
            "answer_type": rng.choice(("yes/no", "number", "other")),
        }
        answers = Answers(tuple(rng.choices(pool, k=10)))
        examples.append(Example(str(number), "?", ("1",), answers, about))
        one = pool[0]
        predicted[str(number)] = rng.choice((*pool, one.lower(), respelled(one), dirty(rng)))
    return examples, predicted


def compare_vqa(
    clone: Path, python2: str, count: int, rng: random.Random, folder: Path
) -> list[Row]:
    """Score random questions with vqaEval.py and with ours."""
    examples, predicted = vqa_examples(count, rng)
    truth = {
        example.example_id: {
            **example.about,
            "answers": [
                {"answer": answer, "answer_id": number}
                for number, answer in enumerate(example.label.answers, start=1)
            ],
        }
        for example in examples
        if isinstance(example.label, Answers)
    }
    both = {"truth": truth, "predicted": {key: {"answer": text} for key, text in predicted.items()}}
    (folder / "both.json").write_text(json.dumps(both))
    script = clone / "PythonEvaluationTools/vqaEvaluation/vqaEval.py"
    (folder / "vqaEval.py").write_text(
        re.sub(r'print (".*")', r"print(\1)", script.read_text("utf-8")), "utf-8"
    )
    theirs = _run(python2, VQA_DRIVER, folder, folder / "both.json", folder / "out.json")
    ours = score("vqa accuracy", examples, predicted)
    each = max(abs(theirs["each"][key] - 100 * value) for key, value in ours.scores.items())
    partial = sum(0 < value < 1 for value in ours.scores.values())
    rows: list[Row] = [_row("vqa", f"worst of {count:,} questions ({partial:,} partial)", 0, each)]
    rows.append(_row("vqa", "overall", theirs["accuracy"]["overall"], ours.values["vqa accuracy"]))
    for kind, key in (("answer_type", "perAnswerType"), ("question_type", "perQuestionType")):
        for name, value in theirs["accuracy"][key].items():
            rows.append(_row("vqa", name, value, ours.by[kind][name].percent))
    return rows


def compare_nlvr(clone: Path, rng: random.Random, folder: Path) -> list[Row]:
    """Score random predictions for the real dev sets with both of NLVR's scripts and with ours."""
    versions: dict[str, tuple[Layout, str, str]] = {
        "nlvr": (nlvr.drawings, "nlvr/metrics_images.py", "nlvr/dev/dev.json"),
        "nlvr2": (nlvr.pairs, "nlvr2/eval/metrics.py", "nlvr2/data/dev.json"),
    }
    rows = []
    for name, (read, script, dev) in versions.items():
        files, options = {"examples": (str(clone / dev),)}, {"id_rule": "stem", "split": "dev"}
        examples = list(read(files, Problems(), options))
        file = folder / f"{name}.csv"
        file.write_text("".join(f"{one.example_id},{_guess(one, rng)}\n" for one in examples))
        command = [sys.executable, str(clone / script), str(file), str(clone / dev)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        theirs = dict(line.split("=") for line in said.replace("precision", "accuracy").split())
        ours = score("accuracy and consistency", examples, predictions.read(file))
        rows += [
            _row(f"{name} ({len(examples):,})", figure, 100 * float(theirs[figure]), value)
            for figure, value in ours.values.items()
        ]
    return rows


def _guess(example: Example, rng: random.Random) -> str:
    assert isinstance(example.label, Answers)
    right = example.label.answers[0]
    wrong = {"true": "False", "false": "True"}
    return right if rng.random() < 0.95 else wrong[right.lower()]


def compare_gqa(script: Path, count: int, rng: random.Random, folder: Path) -> list[Row]:
    """Score random questions with GQA's script and with ours."""
    questions, choices = gqa_files(count, rng)
    answers = {
        key: entry["answer"] if rng.random() < 0.6 else rng.choice(COLORS)
        for key, entry in questions.items()
    }
    listed = [{"questionId": key, "prediction": text} for key, text in answers.items()]
    paths = {}
    for name, value in (("predicted", listed), ("questions", questions), ("choices", choices)):
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps(value))
    (folder / "gqa_eval.py").write_text(script.read_text("utf-8"), "utf-8")
    theirs = _run(sys.executable, GQA_DRIVER, folder, *paths.values(), folder / "gqa.json")
    examples = list(
        gqa_layout.read({"questions": (str(paths["questions"]),)}, Problems(), {"id_rule": "stem"})
    )
    ours = score("gqa accuracy", examples, predictions.read(paths["predicted"]), choices=choices)
    rows = [_row("gqa", name, theirs[name], value) for name, value in ours.values.items()]
    return rows + _gqa_groups(theirs, ours)


def _gqa_groups(theirs: Mapping[str, Any], ours: Metrics) -> list[Row]:
    kinds = {"Length": "words", "Steps": "steps"}
    kinds |= {"StructuralType": "structural", "SemanticType": "semantic"}
    return [
        _row("gqa", f"{kind} {name}", percent, ours.by[kind][name].percent)
        for key, kind in kinds.items()
        for name, (percent, _) in theirs[f"accuracyPer{key}"].items()
    ]


COLORS = ("red", "blue", "green", "yes", "no", "color", "shape", "dog")


def gqa_files(count: int, rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a questions file and a choices file in GQA's layout."""
    operations = ("select", "exist", "query", "choose name", "filter color", "verify rel")
    questions = {
        str(number): {
            "question": " ".join(["word"] * rng.randint(3, 12)) + "?",
            "answer": rng.choice(COLORS),
            "imageId": str(number % 97),
            "isBalanced": rng.random() < 0.7,
            "types": {
                "structural": rng.choice(("query", "verify", "logical", "choose", "compare")),
                "semantic": rng.choice(("attr", "cat", "global", "obj", "rel")),
                "detailed": rng.choice(("twoCommon", "exist", "chooseAttr")),
            },
            "groups": {"global": rng.choice((None, "color", "animal", "place")), "local": "x"},
            "entailed": [str(rng.randrange(count)) for _ in range(rng.choice((0, 1, 4)))],
            "semantic": [
                {
                    "operation": rng.choice(operations),
                    "argument": rng.choice(("name", "dog (1)")),
                    "dependencies": [],
                }
                for _ in range(rng.randint(1, 5))
            ],
        }
        for number in range(count)
    }
    choices = {
        key: {"valid": rng.sample(COLORS, 4), "plausible": rng.sample(COLORS, 2)}
        for key in questions
    }
    return questions, choices


def print_time(count: int, rng: random.Random) -> None:
    """Print how long ours takes for as many questions as VQA's validation split has."""
    examples, predicted = vqa_examples(count, rng)
    start = time.perf_counter()
    found = score("vqa accuracy", examples, predicted)
    seconds = time.perf_counter() - start
    print(f"{count:,} VQA questions scored in {seconds:.1f} s ({found.values['vqa accuracy']:.2f})")


def _row(script: str, figure: str, theirs: float, ours: float) -> Row:
    return script, figure, theirs, ours, f"{abs(theirs - ours):.0e}", abs(theirs - ours)


def _run(python: str, driver: str, *arguments: Path) -> dict[str, Any]:
    command = [python, "-c", driver, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(arguments[-1].read_text())


if __name__ == "__main__":
    main()
