"""What is run again: what did not finish, and what has other settings or reads something else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import vlray
from vlray.pipelines.inputs import ABSENT, fingerprint
from vlray.pipelines.plan import Plan, check_local, make_plan, plan_ahead
from vlray.pipelines.process import settings_file, write_settings
from vlray.pipelines.run import set_aside
from vlray.pipelines.state import NAME, Record, State
from vlray.pipelines.steps import Step
from vlray.pipelines.table import plan_lines, setting_rows
from vlray.storage import files

Steps = Callable[..., dict[str, Step]]


def finished(step: Step) -> Record:
    """Give the record of a step that ran just now; what it wrote is there."""
    if "://" not in step.output:
        Path(step.output, "last").mkdir(parents=True, exist_ok=True)
        Path(step.output, "last", "model").touch()
    plan = make_plan(step, None)
    return Record(
        "finished", plan.settings, plan.inputs, vlray.__version__, 1.0, 2.0, output=step.output
    )


def test_a_fingerprint_is_of_names_sizes_and_times_but_not_of_hidden_files() -> None:
    before = fingerprint("photos")
    top = fingerprint("photos", deep=False)
    Path("photos/.lock").touch()
    assert fingerprint("photos") == before
    Path("photos/below/.tmp").mkdir()
    Path("photos/below/.tmp/part").touch()
    assert fingerprint("photos") == before
    os.utime("photos/below/two.jpg", (1, 1))
    assert fingerprint("photos") != before
    assert fingerprint("photos", deep=False) == top
    Path("photos/one.jpg").rename("photos/other.jpg")
    assert fingerprint("photos", deep=False) != top
    assert fingerprint("nowhere") == ABSENT
    assert fingerprint("photos/other.jpg") != fingerprint("photos/below/two.jpg")


def test_fingerprints_of_object_storage_change_with_what_is_in_it(bucket: str) -> None:
    assert fingerprint(bucket) == ABSENT
    fs, path = files.resolve(bucket)
    files.write_atomic(fs, files.join(path, "a"), b"1")
    before = fingerprint(bucket)
    assert before != ABSENT
    assert fingerprint(bucket) == before
    files.write_atomic(fs, files.join(path, "b", "c"), b"2")
    assert fingerprint(bucket) != before


def test_a_finished_step_is_done_until_something_changes(steps: Steps) -> None:
    step = steps()["regions"]
    assert make_plan(step, None).reason == "not run yet"
    record = finished(step)
    assert make_plan(step, record).is_done
    Path("photos/three.jpg").touch()
    assert make_plan(step, record).reason == "photos has changed"
    other = steps(regions={"detector": {"max_boxes": 10}})["regions"]
    plan = make_plan(other, finished(step))
    assert plan.has_other_settings
    assert "detector.max_boxes changed from the default to 10" in plan.reason
    record = replace(record, inputs=make_plan(step, None).inputs)
    older = replace(record, version="0.0.1")
    assert make_plan(step, older).reason == f"vlray changed from 0.0.1 to {vlray.__version__}"
    Path("o/regions").rename("elsewhere")
    assert make_plan(step, record).reason == "o/regions no longer exists"


def test_where_it_runs_and_how_it_is_watched_changes_nothing(steps: Steps) -> None:
    record = finished(steps()["model"])
    more = {"cluster": {"workers": 2}, "watch": {"tensorboard": False}}
    assert make_plan(steps(model=more)["model"], record).is_done
    assert not make_plan(steps(model={"optim": {"lr": 1}})["model"], record).is_done


@pytest.mark.parametrize(
    ("status", "said"),
    [("failed", "it failed"), ("stopped", "it was stopped"), ("running", "it was interrupted")],
)
def test_what_did_not_finish_goes_on_from_what_is_there(steps: Steps, status, said) -> None:
    step = steps()["model"]
    plan = make_plan(step, replace(finished(step), status=status))
    assert plan.reason == said
    assert not plan.restarts


def test_a_training_begins_anew_where_its_regions_changed_and_an_extraction_goes_on(
    steps: Steps,
) -> None:
    regions, model = steps().values()
    records = {"regions": finished(regions), "model": None}
    records["model"] = finished(model)
    Path("photos/three.jpg").touch()
    Path("o/regions/part").touch()
    plan = make_plan(regions, records["regions"])
    assert plan.reason == "photos has changed"
    assert not plan.restarts
    plan = make_plan(model, records["model"])
    assert plan.reason == "o/regions has changed"
    assert plan.restarts
    stopped = replace(records["model"], status="stopped")
    assert make_plan(model, stopped).restarts  # half of it is of other regions


def test_tokens_are_only_in_the_private_settings_of_their_step(steps: Steps) -> None:
    url = "https://host/w.pth?token="
    step = steps(regions={"detector": {"weights": f"{url}hf_ONE"}})["regions"]
    record = finished(step)
    plan = make_plan(step, None)
    told = [plan.settings, record.settings, *plan_lines([plan], Path("o")), setting_rows(step)]
    assert "hf_ONE" not in str(told)
    assert str(told).count(f"{url}***") == 4
    write_settings(step, Path("o"))
    file = settings_file(step, Path("o"))
    assert f"{url}hf_ONE" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    # Another token is no other input; one in a record of an older version is not shown.
    assert make_plan(steps(regions={"detector": {"weights": f"{url}b"}})["regions"], record).is_done
    old = replace(record, settings={"detector.weights": f"{url}hf_ONE"})
    assert "hf_ONE" not in make_plan(steps()["regions"], old).reason


def test_what_appears_while_a_step_runs_is_no_change_of_its_inputs(steps: Steps) -> None:
    settings = {"model": {"name": "lxmert", "architecture": {"once": "made/later"}}}
    step = steps(model=settings)["model"]
    record = finished(step)
    Path("made").mkdir()
    Path("made/later").touch()
    assert make_plan(step, record).is_done


def test_a_folder_that_is_called_as_a_preset_or_a_corpus_is_no_input(steps: Steps) -> None:
    for name in ("lxmert", "vqa-rad:train", "lite"):
        Path(name).mkdir()
    step = steps(model={"model": {"name": "lxmert"}})["model"]
    assert make_plan(step, None).inputs == {}
    own = steps(regions={"detector": {"name": "mine.py:Mine"}})["regions"]
    Path("mine.py").touch()
    assert set(make_plan(own, None).inputs) == {"mine.py", "photos"}


def test_a_plan_ahead_says_what_will_follow(steps: Steps) -> None:
    both = steps()
    records = {name: finished(step) for name, step in both.items()}
    assert [plan.is_done for plan in plan_ahead(list(both.values()), records)] == [True, True]
    Path("photos/three.jpg").touch()
    plans = plan_ahead(list(both.values()), records)
    assert [plan.reason for plan in plans] == [
        "photos has changed",
        "it depends on regions, which will run first",
    ]
    plans = plan_ahead(list(both.values()), records, only=["model"])
    assert [plan.is_left_out for plan in plans] == [True, False]
    plans = plan_ahead(list(both.values()), records, redo=["regions"])
    assert plans[0].restarts
    assert plans[0].reason.startswith("requested by --redo")


def test_what_is_set_aside_is_kept_under_another_name(steps: Steps) -> None:
    finished(steps()["model"])
    kept = set_aside(Path("o/model"))
    Path("o/model").mkdir()
    again = set_aside(Path("o/model"))
    assert kept != again
    assert (kept / "last" / "model").exists()
    assert not Path("o/model").exists()


def test_object_storage_is_not_set_aside(steps: Steps, bucket: str) -> None:
    step = steps(model={"output": bucket})["model"]
    fs, path = files.resolve(bucket)
    files.write_atomic(fs, files.join(path, "last"), b"1")
    plan = make_plan(step, finished(step), redo=True)
    with pytest.raises(ValueError, match=r"step model must start over .* choose another output"):
        check_local(plan)
    check_local(Plan(step, "not run yet", {}, {}))


def test_the_state_is_read_as_it_was_kept(steps: Steps, tmp_path: Path) -> None:
    state = State.load(tmp_path)
    record = finished(steps()["model"])
    state.record("model", record)
    assert State.load(tmp_path).records == {"model": record}


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 9}', '{"version": 1, "steps": {"a": 1}}']
)
def test_a_broken_state_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ValueError, match=r"is not a valid pipeline state .* delete it"):
        State.load(tmp_path)
