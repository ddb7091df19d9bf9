"""Credentials and control characters never reach files, logs and terminals."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from pathlib import Path

import pytest

from vlray import extract
from vlray.config.logs import LogsConfig
from vlray.runs.folder import open_run
from vlray.settings.environment import EnvironmentSection
from vlray.settings.secrets import printable, redact, redact_all
from vlray.settings.text_table import align
from vlray.storage import files

SECRETS = ("AKIAKEY", "wJalrSECRET", "hf_TOKEN")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://AKIAKEY:wJalrSECRET@bucket/a", "s3://***@bucket/a"),
        ("git+https://hf_TOKEN@host/x.git", "git+https://***@host/x.git"),
        ("https://host/w.pth?token=hf_TOKEN&region=eu", "https://host/w.pth?token=***&region=eu"),
        ("s3://b?X-Amz-Signature=wJalrSECRET", "s3://b?X-Amz-Signature=***"),
        ("copy 's3://AKIAKEY@b' to gs://b?a=1", "copy 's3://***@b' to gs://b?a=1"),
        ("s3://bucket/mail@home.jpg?region=eu", "s3://bucket/mail@home.jpg?region=eu"),
        ("a@b, no URI", "a@b, no URI"),
    ],
)
def test_credentials_are_replaced(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact_all({"a": [text, 1]}) == {"a": [expected, 1]}


def test_a_uri_with_credentials_is_refused_without_showing_them() -> None:
    with pytest.raises(ValueError, match=r"@bucket/x: credentials.*AWS_PROFILE") as error:
        files.resolve("s3://AKIAKEY:wJalrSECRET@bucket/x")
    assert not [secret for secret in SECRETS if secret in str(error.value)]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_run_folder_holds_no_credentials_and_is_private(
    log_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    uri = "s3://AKIAKEY:wJalrSECRET@bucket?token=hf_TOKEN"
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "vlray.extract", uri])
    env = EnvironmentSection(runs_dir=tmp_path, log_format=log_format)
    with closing(open_run(LogsConfig(env=env, run=uri), "extract")) as folder:
        logging.getLogger("vlray").error("reading %s, label \x1b[31mred", uri)
    written = [path.read_text() for path in folder.path.iterdir()] + [capsys.readouterr().err]
    assert len(written) == 6
    assert not [text for text in written for secret in SECRETS if secret in text]
    assert json.loads((folder.path / "status.json").read_text())["argv"][-1].startswith("s3://***@")
    assert not [text for text in written if "\x1b" in text]
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {0o600}


def test_a_command_refuses_credentials_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(SystemExit) as ended:
        extract.main(["s3://AKIAKEY:wJalrSECRET@bucket/photos", "out"])
    assert ended.value.code == 2
    assert "AKIAKEY" not in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_control_characters_are_escaped() -> None:
    assert printable("\x1b]0;title\x07 caf\u00e9\ttab\nline") == (
        "\\x1b]0;title\\x07 caf\u00e9\ttab\nline"
    )
    assert align([["a\x1b[2J", "b"]]) == ["a\\x1b[2J  b"]
