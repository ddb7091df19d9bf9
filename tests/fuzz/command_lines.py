"""Random command lines: valid commands with options and values that nobody would write."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from vlray import compare, convert, datasets, env, extract, logs, pipeline, view
from vlray.settings.commands import COMMANDS, settings_of
from vlray.settings.options import options_of
from vlray.settings.reader import read

VALUES = (
    *("0", "1", "-1", "7", "0.5", "1e999", "nan", "-inf", "99999999999999999999", "true", "none"),
    *("", " ", ",", "a,b", "a=1", "=", "==1", "{}", '{"a": 1', "[[1]]", "null", "~", "*", ".."),
    *("/dev/null", "/proc/self/mem", "out", "in.tsv", "photos", "missing", "/", "é", "\udce9"),
    *("\x1b[31m", "\n", "%s", "$HOME", "{project}", "x" * 5000, "regex:(", "regex:.*", "coco"),
    *("s3://", "http://", "hf://", "file.py:Own", "os:system", "a b", "-", "--"),
    *("float16", "lite", "pooled", "grid"),
)

WHOLE: dict[str, Callable[[list[str]], None]] = {
    "extract": extract.main,
    "view": view.main,
    "convert": convert.main,
    "compare": compare.main,
    "datasets": datasets.main,
    "logs": logs.main,
    "env": env.main,
    "pipeline": pipeline.main,
}
"""Commands that run to their end. Of train, test and tune, only the options are read."""

_HARMLESS = {
    "extract": ["--cluster.address", "none", "--detector.batch-size", "1"],
    "pipeline": ["--dry-run"],
}


def command_line(random: Random) -> tuple[Callable[[list[str]], None], list[str]]:
    """Return a command's ``main``, and arguments for it."""
    command = random.choice([*COMMANDS, "env"])
    if command == "env":
        words = ["show", "set", "unset", "path", "project", "detector.max_boxes", *VALUES]
        return env.main, [random.choice(words) for _ in range(random.randint(0, 4))]
    cls = settings_of(command)
    argv = [random.choice(VALUES) for _ in range(random.randint(0, len(cls.positionals) + 1))]
    if random.random() < 0.7:
        argv = [*_usual(command), *argv[len(_usual(command)) :]]
    names = [".".join(path).replace("_", "-") for path in options_of(cls)]
    for _ in range(random.randint(0, 4)):
        name = random.choice(names)
        if random.random() < 0.2:
            name = name.rpartition(".")[2]
        argv.append(f"--{name}")
        if random.random() < 0.9:
            argv.append(random.choice(VALUES))
    random.shuffle(argv[len(_usual(command)) :])
    argv += _HARMLESS.get(command, [])
    if command in WHOLE:
        return WHOLE[command], argv
    return _reads(cls), argv


def _usual(command: str) -> list[str]:
    """Return positional arguments that a command accepts."""
    usual = {"extract": ["photos", "new"], "view": ["out"], "convert": ["in.tsv", "new"]}
    usual |= {"compare": ["out", "out"], "datasets": ["show", "vqa"], "pipeline": ["steps.yaml"]}
    return usual.get(command, [])


def _reads(cls: Any) -> Callable[[list[str]], None]:
    def main(argv: list[str]) -> None:
        from vlray.runs.session import Session

        with Session(cls.command):
            read(cls, argv)

    return main
