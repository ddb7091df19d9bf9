"""The images' requirements fit pyproject.toml, and their steps what they are for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.rehearse import steps_of

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "docker" / "requirements.txt"
EXTRAS = ("detectron2", "minilm", "cluster")
ADDRESS = re.compile(r"\w+://|^-|^--|@ ?file|find-links|index-url", re.MULTILINE)
WAY_OUT = "docker/requirements.txt does not fit pyproject.toml any more; run make requirements"

dockerfiles = pytest.mark.parametrize(
    "path", sorted((ROOT / "docker").glob("Dockerfile*")), ids=lambda path: path.name
)


def pins() -> dict[str, str]:
    found = {}
    for line in REQUIREMENTS.read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            found[canonicalize_name(name)] = version
    return found


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["optional-dependencies"][extra] for extra in EXTRAS]
    lists += [project["project"]["dependencies"], project["tool"]["uv"]["constraint-dependencies"]]
    return [Requirement(text) for texts in lists for text in texts]


def test_the_requirements_fit_pyproject() -> None:
    pinned = pins()
    for requirement in wanted():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is missing: {WAY_OUT}"
        assert requirement.specifier.contains(version), f"{requirement}, not {version}: {WAY_OUT}"


def test_the_requirements_are_what_was_tested() -> None:
    """Every installed package has the version that the images have, where both have it."""
    from importlib.metadata import PackageNotFoundError, version

    named = {canonicalize_name(requirement.name) for requirement in wanted()}
    others = {}
    for name in named:
        try:
            here = version(name)
        except PackageNotFoundError:
            continue
        if here.split("+")[0] != pins()[name]:
            others[name] = (here, pins()[name])
    exact = {canonicalize_name(one.name) for one in wanted() if "==" in str(one.specifier)}
    assert not exact & others.keys(), f"installed and pinned: {others}; {WAY_OUT}"


def test_the_requirements_name_no_place() -> None:
    assert not ADDRESS.search(REQUIREMENTS.read_text())


def test_a_stale_file_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stale = re.sub(r"^torch==.*$", "torch==2.10.0", REQUIREMENTS.read_text(), flags=re.MULTILINE)
    (tmp_path / "requirements.txt").write_text(stale)
    monkeypatch.setitem(globals(), "REQUIREMENTS", tmp_path / "requirements.txt")
    with pytest.raises(AssertionError, match="make requirements"):
        test_the_requirements_fit_pyproject()


@dockerfiles
def test_code_comes_last_and_nobody_is_root(path: Path) -> None:
    steps = steps_of(path)
    stages = [index for index, (what, _) in enumerate(steps) if what == "FROM"]
    assert len(stages) == 2
    packages, last = steps[: stages[1]], steps[stages[1] :]
    assert not [rest for what, rest in packages if what == "COPY" and "vlray" in rest.split()]
    code = last.index(("COPY", "vlray vlray"))
    slow = [rest for what, rest in last[code:] if what == "RUN" and "--no-deps" not in rest]
    assert not slow
    assert [rest for what, rest in last if what == "USER"] == ["1000"]
    for what, rest in steps:
        if what == "FROM":
            assert re.match(r"python:3\.11\.\d+-slim-bookworm( AS packages)?$", rest)
        if what == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), f"{path.name} copies {name}, which is not there"


@dockerfiles
def test_the_tools_have_the_versions_of_the_requirements(path: Path) -> None:
    assert re.findall(r"\buv==(\S+)", path.read_text()) == [pins()["uv"]]


def test_the_context_has_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    copied = set()
    for path in (ROOT / "docker").glob("Dockerfile*"):
        for what, rest in steps_of(path):
            if what == "COPY" and not rest.startswith("--from"):
                copied |= set(rest.split()[:-1])
    assert lines[1] == "*"
    assert let_in == copied
