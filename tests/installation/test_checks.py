"""The checks of vlray doctor: what they conclude, and what they recommend."""

from __future__ import annotations

import os
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from vlray.cluster.gpus import driver_version
from vlray.config.doctor import DoctorConfig
from vlray.installation import checks, detectron2
from vlray.installation.versions import versions_line


@pytest.mark.parametrize(
    ("cuda", "driver", "gpus", "state", "words"),
    [
        ("", "", [], "ok", "without CUDA; no NVIDIA driver, so detectors run on the CPU"),
        ("13.0", "", [], "ok", "for CUDA 13.0; no NVIDIA driver"),
        ("13.0", "580.65.06", ["H200"], "ok", "for CUDA 13.0, driver 580.65.06: H200"),
        ("", "580.65.06", [], "note", "install a build of torch and torchvision for CUDA"),
        ("13.0", "550.54", [], "problem", "update the driver to 580 or newer, or install a build"),
        ("13.0", "550.54", [], "problem", "of torch for CUDA 12"),
        ("13.0", "390.12", [], "problem", "torch's build for CPUs"),
        ("13.0", "580.65.06", [], "note", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_torch_is_compared_with_the_driver(cuda, driver, gpus, state, words) -> None:
    check = checks.judge_torch("2.14.1", cuda, driver, gpus)
    assert check.state == state
    assert words in f"{check.detail} {check.remedy}"
    assert bool(check.remedy) == (state != "ok")


def test_the_version_of_the_driver_is_read(tmp_path: Path) -> None:
    path = tmp_path / "version"
    assert driver_version(path) == ""
    path.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    assert driver_version(path) == "580.65.06"


def test_this_installation_has_no_problem(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = DoctorConfig(data={"cache_dir": str(tmp_path)}, env={"runs_dir": tmp_path / "runs"})
    states = {check.name: check.state for check in checks.run_checks(config)}
    assert list(states) == [
        "Python", "torch", "torchvision", "Detectron2", "Ray", "Chromium", "disk", "cache"
    ]  # fmt: skip
    assert "problem" not in states.values()


def test_an_old_python_is_a_problem() -> None:
    assert checks.check_python((3, 10)).state == "problem"
    assert checks.check_python((3, 14)).state == "problem"


def test_a_detectron2_that_is_missing_or_broken_is_told_apart(monkeypatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    missing = checks.check_detectron2()
    assert (missing.state, missing.remedy) == ("problem", "vlray doctor --fix")
    monkeypatch.undo()
    monkeypatch.setattr(detectron2, "find_spec", lambda name: name != "pkg_resources" or None)
    assert "setuptools 81 or newer" in checks.check_detectron2().detail


def test_an_environment_of_uv_tool_is_warned_that_an_upgrade_removes_detectron2(
    monkeypatch, tmp_path
) -> None:
    assert "uv tool upgrade" not in checks.check_detectron2().detail
    (tmp_path / "uv-receipt.toml").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    found = checks.check_detectron2()
    assert found.state == "ok"
    assert found.detail.endswith(
        "; uv tool upgrade removes it: run vlray doctor --fix after each upgrade"
    )
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    missing = checks.check_detectron2()
    assert missing.detail == "missing: no detector can run (uv tool upgrade removes it)"
    assert missing.remedy == "vlray doctor --fix"


def test_a_package_that_cannot_be_imported_is_a_problem_and_no_crash() -> None:
    def broken() -> checks.Check:
        raise OSError("libcudart.so.13: cannot open\n shared object file")

    check = checks._guarded("torch", broken)
    assert check.state == "problem"
    assert "OSError: libcudart.so.13: cannot open shared object file" in check.detail
    assert check.remedy


def test_a_running_cluster_is_named(monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check = checks.check_ray()
    assert check.state == "note"
    assert "RAY_ADDRESS=10.0.0.1:6379" in check.detail
    assert "--cluster.address local" in check.remedy


def test_a_full_disk_and_little_shared_memory_are_named(monkeypatch, tmp_path) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(
        checks.shutil, "disk_usage", lambda path: usage(2**26 if "shm" in str(path) else 2**30)
    )
    check = checks.check_disk(tmp_path / "not" / "yet")
    assert check.state == "note"
    assert "free some space for outputs" in check.remedy
    assert "--shm-size" in check.remedy or not Path("/dev/shm").is_dir()


def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path) -> None:
    assert checks.check_cache(tmp_path / "new").state == "ok"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert checks.check_cache(tmp_path / "new").state == "problem"


def test_a_chromium_is_optional(monkeypatch) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    assert checks.check_chromium().state == "note"


def test_the_versions_are_named_without_imports() -> None:
    names = [part.split()[0] for part in versions_line().split(", ")]
    assert names == ["Python", "torch", "Ray", "Detectron2"]
    assert "missing" not in versions_line()


def test_the_build_of_detectron2_is_that_of_pyproject() -> None:
    settings = detectron2.BuildSettings.read()
    assert detectron2.SETTINGS.samefile(Path(__file__).parents[2] / "pyproject.toml")
    assert settings.requirement == "pb1-detectron2==0.6"
    assert {"setuptools<81", "wheel", "fvcore>=0.1.5"} < set(settings.requirements)
    assert not [one for one in settings.requirements if one.startswith("torch")]
    assert "pb1-detectron2:--build-option=--skip-build" in settings.flags
