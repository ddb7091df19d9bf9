"""Calls in a child process that end it cost only themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.unruly import Unruly
from vlray.cluster.expendable import ChildEndedError, ChildError, Expendable
from vlray.cluster.journal import Journal


@pytest.fixture
def child(processes: None) -> Iterator[Expendable]:
    child = Expendable(Unruly, "one", seconds=1.0, memory_gib=0.2)
    yield child
    child.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("abort", "ended by SIGABRT"),
        ("hang", "no result within 1 s"),
        ("eat", "GiB of memory, more than its limit of 0.2 GiB"),
    ],
)
def test_a_call_that_ends_its_process_costs_only_itself(
    child: Expendable, name: str, reason: str
) -> None:
    assert [child.call("count") for _ in range(2)] == [1, 2]
    began = time.monotonic()
    with pytest.raises(ChildEndedError, match=reason):
        child.call(name)
    assert time.monotonic() - began < 30
    assert child.call("count") == 1  # of a new process


def test_a_child_that_something_else_killed_starts_again(child: Expendable, tmp_path: Path) -> None:
    assert child.call("killed", str(tmp_path / "two"), 2) == 3
    with pytest.raises(ChildEndedError, match="SIGKILL; the system may have been out of memory"):
        child.call("killed", str(tmp_path / "three"), 3)


def test_exceptions_keep_their_names_and_the_process(child: Expendable) -> None:
    assert child.call("name") == "one"
    with pytest.raises(ChildError, match="no attribute 'missing'") as caught:
        child.call("missing")
    assert (caught.value.kind, type(caught.value)) == ("AttributeError", ChildError)
    with pytest.raises(ChildError) as caught:
        child.call("leave")
    assert (caught.value.kind, str(caught.value)) == ("SystemExit", "3")
    assert child.call("count") == 1
    process = child._process
    assert process is not None
    child.close()
    assert not Path(f"/proc/{process.pid}").exists()


def test_an_object_that_cannot_be_constructed_raises_at_each_call(processes: None) -> None:
    child = Expendable(Unruly, "broken", seconds=1.0)
    for _ in range(2):
        with pytest.raises(ChildError, match="no such weights") as caught:
            child.call("count")
        assert caught.value.kind == "RuntimeError"


def test_a_journal_counts_images_inside_work_once() -> None:
    journal = Journal()
    journal.begin("shard 1")
    journal.progress("shard 1", 3)
    assert journal.images() == 3
    journal.begin("shard 1")  # again, because its process died
    journal.progress("shard 1", 2)
    journal.progress("shard 2", 1)
    assert journal.images() == 3
    journal.end("shard 1")
    journal.progress()
    assert journal.images() == 3


def test_a_journal_counts_what_was_begun_and_never_ended() -> None:
    journal = Journal()
    assert [journal.begin("shard 1") for _ in range(3)] == [0, 1, 2]
    assert journal.begin("shard 2") == 0
    journal.end("shard 1")
    assert journal.begin("shard 1") == 0
    assert journal.idle_s() < 30
