"""A file alone never decides which code is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlray.config.convert import ConvertConfig
from vlray.config.extract import ExtractConfig
from vlray.config.pipeline import PipelineConfig
from vlray.config.test import TestConfig as TestSettings
from vlray.config.train import TrainConfig
from vlray.config.tune import TuneConfig
from vlray.pipelines.process import command_line
from vlray.pipelines.steps import resolve
from vlray.settings import state
from vlray.settings.base import Command
from vlray.settings.code import names_class
from vlray.settings.reader import UsageError, read


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def write(values: dict[str, Any]) -> str:
    Path("lab.yaml").write_text(json.dumps(values))
    return "lab.yaml"


@pytest.mark.parametrize(
    ("cls", "argv", "values", "message"),
    [
        (
            ExtractConfig,
            ["photos", "out"],
            {"detector": {"name": "evil.py:M"}},
            r"detector.name \(in lab.yaml\) is 'evil.py:M', and vlray imports no code because a "
            r"file names it; .* pass --detector.name evil.py:M yourself, or pass --trust-code",
        ),
        (TrainConfig, [], {"model": {"name": "evil:M"}}, "pass --model.name evil:M yourself"),
        (TestSettings, [], {"model_name": "evil:M"}, "pass --model-name evil:M"),
        (ConvertConfig, ["a", "b"], {"format": "evil:M"}, "pass --format evil:M"),
        (TuneConfig, ["out"], {"space": {"detector.name": '["a.py:B", "lite"]'}}, "a.py:B"),
        (TuneConfig, ["out"], {"tuned": ["extract", "p", "--detector.name=a.py:B"]}, "a.py:B"),
    ],
)
def test_a_class_in_a_file_of_settings_needs_the_users_consent(
    cls: type[Command], argv: list[str], values: dict[str, Any], message: str
) -> None:
    argv = [*argv, "--config", write(values)]
    with pytest.raises(UsageError, match=message):
        read(cls, argv)
    assert read(cls, [*argv, "--trust-code"]).trust_code


def test_the_users_own_choice_needs_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["photos", "out", "--config", write({"detector": {"name": "evil.py:M"}})]
    for name in ("lite", "own.py:Mine", "evil.py:M"):
        assert read(ExtractConfig, [*argv, "--detector.name", name]).detector.name == name
    monkeypatch.setenv("VLRAY_DETECTOR__NAME", "own.py:Mine")
    assert read(ExtractConfig, argv).detector.name == "own.py:Mine"
    monkeypatch.delenv("VLRAY_DETECTOR__NAME")
    state.store("detector.name", "own.py:Mine")
    assert read(ExtractConfig, argv[:2]).detector.name == "own.py:Mine"
    with pytest.raises(UsageError, match=r"evil\.py:M"):
        read(ExtractConfig, argv)


def test_a_file_does_not_consent_to_itself() -> None:
    values = {"trust_code": True, "detector": {"name": "evil.py:M"}}
    with pytest.raises(UsageError, match="no effect in a file; pass --trust-code on the command"):
        read(ExtractConfig, ["photos", "out", "--config", write(values)])
    with pytest.raises(ValueError, match="unknown option trust_code"):
        state.store("trust_code", "true")
    assert (
        "trust_code"
        not in ExtractConfig(trust_code=True, images={"root": "a"}, output={"path": "b"}).resolved()
    )


@pytest.mark.parametrize(
    "step",
    [
        {"detector": {"name": "evil.py:M"}},
        {"config": "more.yaml"},
    ],
)
def test_a_pipeline_needs_consent_too(step: dict[str, Any]) -> None:
    Path("more.yaml").write_text('detector: {name: "evil.py:M"}')
    step = {"command": "extract", "images": {"root": "photos"}} | step
    argv = [write({"steps": {"regions": step}})]
    with pytest.raises(UsageError, match=r"step regions: .*evil\.py:M.* pass --trust-code"):
        resolve(read(PipelineConfig, argv))
    (trusted,) = resolve(read(PipelineConfig, [*argv, "--trust-code"]))
    assert command_line(trusted, Path())[-1] == "--trust-code"
    step = {"command": "extract", "images": {"root": "photos"}, "trust_code": True}
    with pytest.raises(UsageError, match="trust_code applies to the whole pipeline"):
        resolve(read(PipelineConfig, [write({"steps": {"regions": step}})]))
    del step["trust_code"]
    file = write({"steps": {"regions": step}, "shared": {"trust_code": True}})
    with pytest.raises(UsageError, match="trust_code applies to the whole pipeline"):
        resolve(read(PipelineConfig, [file]))


@pytest.mark.parametrize(
    ("value", "is_class"),
    [
        ("lite", False),
        ("https://host:80/config.yaml", False),
        ("hf://a/b#sha256=00", False),
        ("0.3..0.9/7,1e-5", False),
        ("own.py:Mine", True),
        ("own.py:Évil", True),
        ("a,.py:M", True),
        ('["lite", "a,:M"]', True),
        (("extract", "--detector.name=a:M"), True),
    ],
)
def test_a_class_is_recognized_like_where_it_is_imported(value: Any, is_class: bool) -> None:
    assert names_class(value) == is_class
