"""The command line: positionals, shortcuts, spellings, help."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import ClassVar, get_args

import pytest

from vlray.config.datasets import DatasetsConfig
from vlray.config.extract import ExtractConfig
from vlray.config.test import TestConfig
from vlray.config.train import TrainConfig
from vlray.config.view import ViewConfig
from vlray.runs.session import Session
from vlray.settings.base import Command
from vlray.settings.commands import COMMANDS, settings_of
from vlray.settings.help import is_requested
from vlray.settings.options import options_of
from vlray.settings.reader import from_cli, read
from vlray.settings.section import Section


class FirstSection(Section):
    size: int = 0
    depth: int = 0


class TwinConfig(Command):
    """Two sections that have an option of one name."""

    command: ClassVar[str] = "twin"
    first: FirstSection = FirstSection()
    second: FirstSection = FirstSection()


def refusal(capsys: pytest.CaptureFixture[str], command: type[Command], *args: str) -> str:
    """Read arguments that are refused, and give what the user is told."""
    with pytest.raises(SystemExit) as stop, Session(command.command):
        from_cli(command, list(args))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        "photos regions --min-boxes 10",
        "--min-boxes 10 photos regions",
        "photos --min-boxes=10 regions",
        "photos regions --min_boxes 10",
        "photos regions --detector.min_boxes=10",
        "photos regions --detector.min-boxes 10",
        "--images.root photos --path regions --min-boxes 10",
        "--min-boxes 10 -- photos regions",
    ],
)
def test_every_spelling_means_the_same(args) -> None:
    config = from_cli(ExtractConfig, args.split())
    assert (config.images.root, config.output.path) == ("photos", "regions")
    assert config.detector.min_boxes == 10


def test_a_further_name_of_a_flag_is_the_same_flag() -> None:
    args = ["--checkpoint", "models/vqa", "--data", "vqa:minival"]
    config = from_cli(TestConfig, args)
    assert (config.checkpoint, config.corpus) == ("models/vqa", "vqa:minival")
    assert from_cli(TestConfig, [*args[:2], "--data=vqa:minival"]) == config


def test_a_positional_of_view_is_the_output() -> None:
    assert from_cli(ViewConfig, ["regions", "--limit", "5"]).output == "regions"


def test_booleans_are_switched_without_a_value(capsys) -> None:
    config = from_cli(ExtractConfig, ["a", "b", "--retry-failures", "--no-follow-symlinks"])
    assert config.output.retry_failures
    assert not config.images.follow_symlinks
    assert not from_cli(
        ExtractConfig, ["a", "b", "--no-images.follow_symlinks"]
    ).images.follow_symlinks
    assert "takes no value" in refusal(capsys, ExtractConfig, "a", "b", "--retry-failures=yes")


@pytest.mark.parametrize("text", ["-1", "-0.5"])
def test_a_value_may_be_negative(text) -> None:
    args = ["a", "b", "--gpus-per-actor", text]
    assert from_cli(ExtractConfig, args).cluster.gpus_per_actor == float(text)


@pytest.mark.parametrize("name", ["null", "None", "true", "1e5", "007", "a b", "[x]", '"q"', "{"])
def test_text_stays_what_was_written(name) -> None:
    config = from_cli(ExtractConfig, [name, "out", "--dataset", name, "--split", name])
    assert (config.images.root, config.images.dataset, config.split) == (name, name, (name,))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--min-boxs", "3"], "unknown flag --min-boxs; did you mean --detector.min-boxes?"),
        (["--detector.nam", "x"], "unknown flag --detector.nam; did you mean --detector.name?"),
        (["--detctor.name=x"], "unknown flag --detctor.name; did you mean --detector.name?"),
        (["--zzz"], "unknown flag --zzz; see --help-all"),
        (["-x"], "unknown flag -x; see --help-all"),
        (["--detector", "lite"], "--detector is a section, not an option; its options are"),
        (["--min-score", ".5"], "--min-score is an option of vlray view, not of extract"),
        (["--detector.options.a", "1"], "use --detector.options a=VALUE"),
        (
            ["--options", "a"],
            "detector.options cannot be parsed; pass KEY=VALUE (several: a=1,b=2)",
        ),
        (["--options", '{"a": 1'], "detector.options cannot be parsed; pass KEY=VALUE"),
        (["--options", "a=1", "b=2"], "'b=2' is an unexpected argument after IMAGES OUT; separate"),
        (["--min-boxes"], "--detector.min-boxes: expected one argument"),
        (["c"], "'c' is an unexpected argument after IMAGES OUT"),
        (["--images.root", "c"], "images.root is set twice, by IMAGES and by a flag"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(capsys, args, said) -> None:
    message = refusal(capsys, ExtractConfig, "a", "b", *args)
    assert said in message
    assert "usage: vlray extract IMAGES OUT [options]" in message


def test_a_flag_of_extract_is_named_to_users_of_view(capsys) -> None:
    message = refusal(capsys, ViewConfig, "regions", "--min-boxes", "3")
    assert "--min-boxes is an option of vlray extract, not of view" in message


def test_missing_positionals_are_explained(capsys) -> None:
    message = refusal(capsys, ExtractConfig, "photos")
    assert "IMAGES" not in message.splitlines()[0]
    assert "OUT (output.path) is missing. Folder or URI" in message
    assert "usage: vlray extract IMAGES OUT [options]" in message


def test_an_ambiguous_shortcut_is_refused_naming_the_candidates(capsys) -> None:
    message = refusal(capsys, TwinConfig, "--size", "3")
    assert "--size is ambiguous: it can be --first.size or --second.size" in message
    assert from_cli(TwinConfig, ["--second.size", "3"]).second.size == 3


def test_help_teaches_every_option(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        from_cli(ExtractConfig, ["--help-all"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: vlray extract IMAGES OUT [options]")
    assert "vlray extract photos/ regions/" in text
    for flag in ("--detector.min-boxes N", "--output.dtype {float16,float32}", "--config FILE"):
        assert flag in text
    assert "Raised to min_boxes if only that is set. (default: 36)" in " ".join(text.split())
    assert "``" not in text
    assert max(map(len, text.splitlines())) <= 100


def help_of(command: str, capsys, *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        from_cli(settings_of(command), [*args, "--help"])
    assert stop.value.code == 0
    text: str = capsys.readouterr().out
    return text


@pytest.mark.parametrize("command", COMMANDS)
def test_short_help_fits_on_two_screens_and_names_what_is_common(capsys, command) -> None:
    text = help_of(command, capsys)
    cls = settings_of(command)
    assert len(text.splitlines()) <= 90
    assert text.startswith(f"usage: vlray {command}")
    examples = text.partition("examples:\n")[2]
    assert examples.count(f"  vlray {command} ") == min(len(cls.examples), 3)
    assert f"vlray {command} --help-all explains all {len(options_of(cls))} options" in text
    for name in cls.common:
        assert f"--{name.split('.')[-1].replace('_', '-')}" in text
    assert "--env.runs-dir" not in text
    assert "{{" not in text


def test_help_of_an_action_is_about_this_action(capsys) -> None:
    text = help_of("datasets", capsys, "check", "vqa")
    assert text.startswith("usage: vlray datasets check DATASET[:SPLIT]")
    assert "--regions NAME" in text
    assert "--mix" not in text
    assert "--mix {size" in help_of("datasets", capsys, "corpus")
    whole = help_of("datasets", capsys)
    assert all(one.usage in whole for one in settings_of("datasets").actions.values())
    assert get_args(DatasetsConfig.model_fields["action"].annotation) == (*DatasetsConfig.actions,)


def test_help_behind_two_dashes_belongs_to_the_command_behind_them(capsys) -> None:
    assert not is_requested(["out", "--", "extract", "--help"])
    assert is_requested(["out", "-h", "--", "extract"])


def test_choices_within_choices_are_one_list_of_words(capsys) -> None:
    with pytest.raises(SystemExit):
        from_cli(settings_of("train"), ["--help-all"])
    text = capsys.readouterr().out
    assert "--loader.boxes {none,xyxy,xyxy_area,xyxy_wh,xyxy_wh_area,model}" in text
    assert "{{" not in text


def test_several_regions_are_a_list_or_a_repeated_flag() -> None:
    wanted = ("a=x", "b=y", "c=z")
    for flags in (["--regions", "a=x,b=y,c=z"], ["--regions", "a=x", "--regions", "b=y,c=z"]):
        assert read(TrainConfig, ["vqa:train", *flags]).regions == wanted


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    "command", ["extract", "view", "train", "test", "tune", "pipeline", "logs"]
)
def test_help_is_quick_and_imports_nothing_heavy(command) -> None:
    code = (
        "import sys\n"
        "from vlray.cli import main\n"
        "try:\n"
        f"    main([{command!r}, '--help'])\n"
        "finally:\n"
        "    heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'PIL', 'detectron2'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    times = []
    for _ in range(3):  # the processor's time, and the best: other work does not count
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith(f"usage: vlray {command}")
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) <= 0.6


def test_a_limit_of_boxes_that_is_given_alone_takes_the_other_with_it() -> None:
    fewer = from_cli(ExtractConfig, ["photos", "out", "--max-boxes", "10"]).detector
    assert (fewer.min_boxes, fewer.max_boxes) == (10, 10)
    more = from_cli(ExtractConfig, ["photos", "out", "--min-boxes", "50"]).detector
    assert (more.min_boxes, more.max_boxes) == (50, 50)
    within = from_cli(ExtractConfig, ["photos", "out", "--max-boxes", "100"]).detector
    assert (within.min_boxes, within.max_boxes) == (36, 100)
