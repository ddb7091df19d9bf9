"""Outputs of a job whose working directory is a copy that Ray deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.config.extract import ExtractConfig
from vlray.config.test import TestConfig
from vlray.config.train import TrainConfig
from vlray.settings.job_folder import check_outputs
from vlray.settings.reader import from_cli


def test_a_relative_output_of_a_job_is_refused_with_a_path_to_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ValueError, match=r"output\.path 'out' is relative .*Ray's copy") as caught:
        from_cli(ExtractConfig, ["photos", "out"])
    assert f"such as {Path.home() / 'out'}" in str(caught.value)
    for output in ("s3://bucket/out", str(tmp_path / "out"), "~/out"):
        from_cli(ExtractConfig, ["photos", output])
    monkeypatch.chdir(tmp_path)
    from_cli(ExtractConfig, ["photos", "out"])


def test_what_a_job_would_lose_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "working_dir_files" / "s3_bucket_code"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    runs = ["--env.runs-dir", str(tmp_path / "runs")]
    with pytest.raises(ValueError, match=r"env\.runs_dir 'runs' is relative .*such as /"):
        from_cli(ExtractConfig, ["photos", "/out", "--env.runs-dir", "runs"])
    for options in ([], runs):  # models/PROJECT/DATA is relative
        with pytest.raises(ValueError, match=r"output is not set, .* pass an absolute path"):
            from_cli(TrainConfig, ["vqa:train", "/regions", *options])
    with pytest.raises(ValueError, match="output is not set"):
        from_cli(TestConfig, ["/model", "vqa:val"])  # the default is the run folder
    from_cli(TestConfig, ["/model", "vqa:val", *runs])
    from_cli(ExtractConfig, ["photos", "/out"])  # only the run folder is lost


@pytest.mark.parametrize("option", [("output",), ("page",), ("report",)])
def test_the_outputs_of_all_commands_are_checked(option: tuple[str, ...]) -> None:
    folder = Path("/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_01")
    with pytest.raises(ValueError, match=f"{option[0]} 'out' is relative"):
        check_outputs({option: "out"}, folder)
