"""Whether a file is the one that was read before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlray.storage import fingerprint
from vlray.storage.fingerprint import ABSENT, Fingerprint


def write(path: Path, data: bytes, time: int = 10**18) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(time, time))
    return path


def test_a_file_has_its_size_and_time_and_a_missing_one_is_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", b"abc")
    assert fingerprint.of_file(path) == Fingerprint(3, 10**18)
    link = tmp_path / "link.jpg"
    link.symlink_to(path)
    assert fingerprint.of_file(link) == Fingerprint(3, 10**18)
    assert fingerprint.of_file(tmp_path / "none.jpg") == ABSENT
    assert fingerprint.of_file(path / "below") == ABSENT


def test_paths_of_a_listing_are_found_wherever_they_are(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a.jpg", b"a")
    write(tmp_path / "b.jpg", b"bb")
    Path(os.fsdecode(bytes(tmp_path / "root") + b"/caf\xe9.jpg")).write_bytes(b"ccc")
    paths = ["a.jpg", "../b.jpg", str(tmp_path / "b.jpg"), "none.jpg", r"caf\xe9.jpg"]
    found = fingerprint.of_paths(str(tmp_path / "root"), paths)
    assert [one.file_bytes for one in found] == [1, 2, 2, -1, 3]
    assert fingerprint.of_paths(str(tmp_path), []) == []


def test_a_tree_is_of_files_only_and_the_same_in_any_order(tmp_path: Path) -> None:
    for name in ("b", "a/c", "a/d/e"):
        write(tmp_path / name, name.encode())
    tree = fingerprint.of_tree(str(tmp_path))
    assert [os.path.relpath(path, tmp_path) for path in tree] == ["a/c", "a/d/e", "b"]
    top = fingerprint.of_tree(str(tmp_path), deep=False)
    assert list(top) == [str(tmp_path / "b")]
    assert fingerprint.of_tree(str(tmp_path / "none")) == {}
    turned = dict(reversed(tree.items()))
    assert fingerprint.summary(turned) == fingerprint.summary(tree)
    write(tmp_path / "a" / "c", b"a/c", time=1)
    assert fingerprint.summary(fingerprint.of_tree(str(tmp_path))) != fingerprint.summary(tree)


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_a_sample_sees_every_byte_but_those_in_the_middle(
    position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(40)
    paths = [tmp_path / name for name in "abc"]

    def sample() -> tuple[str, bool]:
        cuts = [0, 7, 29, 40]
        for path, begin, end in zip(paths, cuts, cuts[1:], strict=False):
            path.write_bytes(data[begin:end])
        return fingerprint.sample(paths)

    whole, is_whole = sample()
    assert is_whole
    monkeypatch.setattr(fingerprint, "SAMPLED", 10)
    ends, is_whole = sample()
    assert not is_whole
    data[position] = 1
    assert (sample()[0] == ends) == (10 <= position < 30)
    monkeypatch.setattr(fingerprint, "SAMPLED", 20)
    assert sample()[0] != whole


def test_files_of_other_sizes_have_another_sample(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", b"xy"), write(tmp_path / "b", b"z")
    before = fingerprint.sample([one, other])
    write(one, b"x")
    write(other, b"yz")  # the same bytes, cut elsewhere
    assert fingerprint.sample([one, other]) != before
