"""Which layer wins, and what is said of a value that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.config.extract import ExtractConfig
from vlray.config.pipeline import PipelineConfig
from vlray.config.test import TestConfig
from vlray.config.train import TrainConfig
from vlray.config.tune import TuneConfig
from vlray.config.view import ViewConfig
from vlray.runs.session import Session
from vlray.settings import commands
from vlray.settings.options import SYNONYMS, options_of
from vlray.settings.reader import UsageError, from_cli

ARGS = ["photos", "regions"]


def refusal(capsys: pytest.CaptureFixture[str], args: list[str], command=ExtractConfig) -> str:
    """Read arguments that are refused, and give what the user is told."""
    with pytest.raises(SystemExit) as stop, Session(command.command):
        from_cli(command, args)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("variable", "flag", "key", "read", "default", "values"),
    [
        ("VLRAY_PROJECT", "--project", "project: {}", "project", "default", "abcd"),
        ("VLRAY_DETECTOR__MIN_BOXES", "--min-boxes", "detector: {{min_boxes: {}}}",
         "detector.min_boxes", 36, (1, 2, 3, 4)),
        ("VLRAY_ENV__LOG_LEVEL", "--env.log-level", "env: {{log_level: {}}}", "env.log_level",
         "info", ("debug", "warning", "error", "info")),
    ],
)  # fmt: skip
def test_each_layer_wins_over_the_one_below(
    monkeypatch, home, tmp_path, variable, flag, key, read, default, values
) -> None:
    def value() -> object:
        config: object = from_cli(ExtractConfig, args)
        for name in read.split("."):
            config = getattr(config, name)
        return config

    args = list(ARGS)
    assert value() == default
    (home / "settings.yaml").write_text(key.format(values[0]))
    assert value() == values[0]
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(key.format(values[1]))
    args += ["--config", str(first)]
    assert value() == values[1]
    second.write_text(key.format(values[2]))
    args += ["--config", str(second)]
    assert value() == values[2]
    monkeypatch.setenv(variable, str(values[3]))
    assert value() == values[3]
    args += [flag, str(values[0])]
    assert value() == values[0]


def test_layers_are_merged_option_by_option(monkeypatch, home, tmp_path) -> None:
    (home / "settings.yaml").write_text("detector: {score_thresh: 0.1, options: {a: 1, b: 1}}")
    (tmp_path / "c.yaml").write_text("detector: {max_boxes: 50, options: {b: 2, c: 2}}")
    monkeypatch.setenv("VLRAY_DETECTOR__MIN_BOXES", "20")
    monkeypatch.setenv("VLRAY_DETECTOR__OPTIONS__C", "3")
    args = [*ARGS, "--config", "c.yaml", "--nms-thresh", "0.7", "--options", "d=4,e=four"]
    detector = from_cli(ExtractConfig, args).detector
    assert (detector.score_thresh, detector.max_boxes) == (0.1, 50)
    assert (detector.min_boxes, detector.nms_thresh) == (20, 0.7)
    assert detector.options == {"a": 1, "b": 2, "c": 3, "d": 4, "e": "four"}


@pytest.mark.parametrize(
    ("config", "word", "option"),
    [
        (TrainConfig, "learning-rate", "optim.lr"),
        (TrainConfig, "optim.learning-rate", "optim.lr"),
        (TrainConfig, "num-epochs", "training.epochs"),
        (TrainConfig, "batch", "training.batch-size"),
        (TrainConfig, "max-steps", "training.steps"),
        (TrainConfig, "output-dir", "output"),
        (TrainConfig, "fp16", "training.precision"),
        (TrainConfig, "bf16", "training.precision"),
        (TrainConfig, "gradient-accumulation-steps", "training.accumulate"),
        (TrainConfig, "warmup-ratio", "optim.warmup"),
        (TrainConfig, "num-workers", "cluster.workers"),
        (TestConfig, "bf16", "precision"),
        (TestConfig, "random-seed", "seed"),
        (ExtractConfig, "output-dir", "output.path"),
        (ExtractConfig, "num-workers", "cluster.actors"),
        (ExtractConfig, "fp16", "detector.precision"),
    ],
)
def test_words_of_other_tools_lead_to_the_option(config, word, option) -> None:
    with pytest.raises(UsageError, match=f"unknown flag --{word}; did you mean --{option}\\?"):
        from_cli(config, ["a", "b", f"--{word}", "1"])


def test_every_word_of_other_tools_stands_for_an_option() -> None:
    known = {
        ".".join(path)
        for name in commands.COMMANDS
        for path in options_of(commands.settings_of(name))
    }
    assert SYNONYMS.keys() <= known


def test_several_files_may_follow_one_config_flag(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("project: a\nsplit: [train]")
    (tmp_path / "b.yaml").write_text("project: b\nimages:\n")
    config = from_cli(ExtractConfig, ["--config", "a.yaml", "b.yaml", *ARGS])
    assert (config.project, config.split) == ("b", ("train",))
    assert config.images.root == "photos"


def test_a_variable_may_name_the_config_files(monkeypatch, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("project: a")
    monkeypatch.setenv("VLRAY_CONFIG", "a.yaml")
    assert from_cli(ExtractConfig, ARGS).project == "a"


def test_splits_are_lists_in_every_layer(monkeypatch, home) -> None:
    (home / "settings.yaml").write_text("split: train, val")
    assert from_cli(ExtractConfig, ARGS).split == ("train", "val")
    monkeypatch.setenv("VLRAY_SPLIT", "val,test")
    assert from_cli(ExtractConfig, ARGS).split == ("val", "test")
    args = [*ARGS, "--split", "a,b", "--split", "c"]
    assert from_cli(ExtractConfig, args).split == ("a", "b", "c")
    assert from_cli(ExtractConfig, [*ARGS, "--split", ""]).split == ()


def test_the_constructor_reads_no_layer(monkeypatch, home) -> None:
    (home / "settings.yaml").write_text("project: lasting")
    monkeypatch.setenv("VLRAY_PROJECT", "variable")
    config = ExtractConfig(images={"root": "a"}, output={"path": "b"})
    assert config.project == "default"
    with pytest.raises(ValueError, match="frozen"):
        config.project = "other"


def test_what_belongs_to_another_command_is_ignored_where_it_is_shared(monkeypatch, home) -> None:
    (home / "settings.yaml").write_text("min_score: 0.9\noutput: {dtype: float32}")
    monkeypatch.setenv("VLRAY_PAGE", "elsewhere")
    monkeypatch.setenv("VLRAY_OUTPUT__COMPRESSION", "none")
    extract, view = from_cli(ExtractConfig, ARGS), from_cli(ViewConfig, ["regions"])
    assert (extract.output.dtype, extract.output.compression) == ("float32", "none")
    assert (view.output, view.min_score, view.page) == ("regions", 0.9, "elsewhere")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("VLRAY_PROJCT", "VLRAY_PROJECT"),
        ("VLRAY_DETECTOR__MIN_BOXS", "VLRAY_DETECTOR__MIN_BOXES"),
        ("VLRAY_DETECTR__MIN_BOXES", "VLRAY_DETECTOR__MIN_BOXES"),
        ("VLRAY_MIN_BOXES", "VLRAY_DETECTOR__MIN_BOXES"),
        ("VLRAY_DETECTOR", "VLRAY_DETECTOR__NAME"),
        ("VLRAY_FOO", "--help"),
    ],
)
def test_unknown_variables_are_refused_by_name(monkeypatch, capsys, name, nearest) -> None:
    monkeypatch.setenv(name, "1")
    message = refusal(capsys, ARGS)
    assert name in message
    assert nearest in message


@pytest.mark.parametrize("lasting", [True, False], ids=["settings.yaml", "config file"])
@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("projct: x", "projct", "project"),
        ("detector: {min_boxs: 1}", "detector.min_boxs", "detector.min_boxes"),
        ("detctor: {min_boxes: 1}", "detctor.min_boxes", "detector.min_boxes"),
        ("min_boxes: 1", "min_boxes", "detector.min_boxes"),
        ("detector: lite", "detector", "detector.name"),
        ("config: other.yaml", "config", "--config FILE"),
    ],
)
def test_unknown_keys_are_refused_by_name_and_file(
    capsys, home, tmp_path, text, name, nearest, lasting
) -> None:
    path = home / "settings.yaml" if lasting else tmp_path / "c.yaml"
    path.write_text(text)
    message = refusal(capsys, ARGS if lasting else [*ARGS, "--config", str(path)])
    assert f"{name} (in {path})" in message
    assert nearest in message


def test_a_key_of_another_command_in_a_config_file_is_refused(capsys, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("min_score: 0.5")
    message = refusal(capsys, [*ARGS, "--config", "c.yaml"])
    assert "min_score (in c.yaml) is an option of vlray view, not of extract" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "c.yaml: no such file"),
        ("- a\n- b", "c.yaml contains a list; write a mapping"),
        ("just words", "c.yaml contains a str; write a mapping"),
        ("a: [", "c.yaml is not valid YAML"),
        ("detector: {min_boxes: many}", "detector.min_boxes (in c.yaml) is 'many'"),
        ("detector: {min_boxes: [1]}", "detector.min_boxes (in c.yaml) is [1]"),
        ("split: {a: b}", "split"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(capsys, tmp_path, text, said) -> None:
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    assert said in refusal(capsys, [*ARGS, "--config", "c.yaml"])


def test_bad_values_are_named_as_they_were_written(monkeypatch, capsys) -> None:
    monkeypatch.setenv("VLRAY_OUTPUT__DTYPE", "float8")
    args = [*ARGS, "--min-boxes=ten", "--id-rule", "regex:(", "--actors", "-1"]
    message = refusal(capsys, args)
    assert "--detector.min-boxes is 'ten': it should be a valid integer" in message
    assert "VLRAY_OUTPUT__DTYPE is 'float8': it should be 'float16' or 'float32'" in message
    assert "--images.id-rule is 'regex:(': '(' is not a valid regular expression" in message
    assert "--cluster.actors is '-1': it should be greater than or equal to 0" in message


def test_a_rule_between_options_names_where_they_were_given(capsys, home) -> None:
    (home / "settings.yaml").write_text("detector: {max_boxes: 5}")
    message = refusal(capsys, [*ARGS, "--min-boxes", "8"])
    assert "min_boxes=8 exceeds max_boxes=5" in message
    assert f"detector.max_boxes (in {home / 'settings.yaml'})" in message
    assert "--detector.min-boxes" in message


def test_options_that_exclude_each_other_are_refused(capsys) -> None:
    message = refusal(capsys, [*ARGS, "--boxes", "b.csv", "--features", "grid"])
    assert message.startswith("vlray extract: boxes and detector.features=grid exclude each other")
    assert "(given: --boxes, --detector.features)" in message
    for flags in (["--grid-size", "7"], ["--grid-layer", "c4", "--features", "none"]):
        message = refusal(capsys, [*ARGS, *flags])
        assert f"no effect with features={'none' if flags[2:] else 'pooled'}" in message
    config = from_cli(ExtractConfig, [*ARGS, "--features", "grid", "--grid-size", "7"])
    assert (config.detector.grid_layer, config.detector.grid_size) == ("res5", 7)


@pytest.mark.parametrize("project", ["a/b", "..", "", "a\\b"])
def test_a_project_is_the_name_of_a_folder(capsys, project) -> None:
    assert "use a plain folder name" in refusal(capsys, [*ARGS, "--project", project])


def test_a_mapping_from_a_variable_is_json(monkeypatch, capsys) -> None:
    monkeypatch.setenv("VLRAY_DETECTOR__OPTIONS", '{"depth": 50}')
    assert from_cli(ExtractConfig, ARGS).detector.options == {"depth": 50}
    monkeypatch.setenv("VLRAY_DETECTOR__OPTIONS", "depth")
    assert "VLRAY_DETECTOR__OPTIONS: not valid JSON" in refusal(capsys, ARGS)


CONFIGS = Path(__file__).parents[2] / "configs"
COMMANDS = {
    "extract": (ExtractConfig, ARGS),
    "train": (TrainConfig, ["vqa:train", "regions", "out"]),
    "view": (ViewConfig, ["regions"]),
    "pipeline": (PipelineConfig, []),
    "tune": (TuneConfig, ["sweep"]),
}


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_each_config_file_loads_and_holds_only_what_differs(path) -> None:
    command, args = COMMANDS[path.parent.name]
    config = from_cli(command, [*args, "--config", str(path)])
    import yaml

    from vlray.settings.options import flatten

    differs = set(flatten(config.changed()))
    assert set(flatten(yaml.safe_load(path.read_text()))) <= differs


def test_a_uri_is_no_folder_of_runs() -> None:
    with pytest.raises(UsageError, match=r"runs-dir is 's3://b/runs': runs need a local"):
        from_cli(ExtractConfig, ["photos", "out", "--env.runs-dir", "s3://b/runs"])
