"""Whole tests of tiny models: their figures, their files, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.fixtures.random_outputs import write_output
from tests.fixtures.world import ANSWERS, TRUTH, World
from vlray.evaluation.report import table
from vlray.evaluation.run import test as run_test
from vlray.models.protocol import Goal
from vlray.tasks import predictions
from vlray.tasks.catalogue import find_split
from vlray.tasks.examples import open_examples
from vlray.tasks.metrics import score


def test_figures_have_intervals_and_are_broken_down(world: World, tmp_path: Path) -> None:
    config = world.config(world.checkpoint("lxmert", ANSWERS, prefers=3), "vqa:val")
    result = run_test(config, str(tmp_path))
    found = json.loads((tmp_path / "metrics.json").read_text())
    overall = found["figures"]["vqa accuracy"]
    assert overall["value"] == pytest.approx(50)
    assert overall["n"] == 24
    assert 20 < overall["low"] < 50 < overall["high"] < 80
    assert found["by"]["answer_type"]["yes/no"] == {
        "value": 100.0,
        "low": 100.0,
        "high": 100.0,
        "n": 12,
    }
    assert found["by"]["question_type"]["what color"]["value"] == 0
    assert found["checkpoint"]["step"] == 7
    assert found["examples"]["predicted"] == 24
    assert found["losses"]["labels"] > 0
    lines = table(result.metrics).splitlines()
    assert lines[0].split() == ["value", "95", "%", "interval", "n"]
    assert lines[1].split()[:3] == ["vqa", "accuracy", "50.00"]
    assert [line.split()[0] for line in lines[2:5]] == ["by", "other", "yes/no"]


def test_figures_stand_beside_what_one_answer_for_all_gives(world: World, tmp_path: Path) -> None:
    checkpoint = world.checkpoint("lxmert", ANSWERS, prefers=3, most_frequent="blue")
    result = run_test(world.config(checkpoint, "vqa:val", examples_shown=0), str(tmp_path))
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["baseline"] == {"answer": "blue", "corpus": "vqa:train"}
    assert found["figures"]["vqa accuracy"]["baseline"] == pytest.approx(50)
    assert {name: one["baseline"] for name, one in found["by"]["answer_type"].items()} == {
        "yes/no": 0,
        "other": 100,
    }
    assert result.notes == ('always "blue": the most frequent answer in vqa:train',)
    lines = table(result.metrics, result.baseline).splitlines()
    assert lines[0].split()[-2:] == ["always", '"blue"']
    assert [line.split()[-1] for line in (lines[1], *lines[3:5])] == ["50.00", "100.00", "0.00"]
    limited = world.config(checkpoint, "vqa:val", examples_shown=0, limit=3, resamples=0)
    assert run_test(limited, str(tmp_path)).metrics[0].baseline == 0  # three that want yes


def test_a_checkpoint_that_does_not_know_it_has_no_baseline(world: World, tmp_path: Path) -> None:
    config = world.config(world.checkpoint("lxmert", ANSWERS), "vqa:val", examples_shown=0)
    result = run_test(config, str(tmp_path))
    assert result.baseline == ""
    assert json.loads((tmp_path / "metrics.json").read_text())["baseline"] is None


@pytest.mark.parametrize(
    ("name", "goal", "split", "file"),
    [
        ("lxmert", ANSWERS, "vqa:val", "submission.json"),
        ("visualbert", TRUTH, "nlvr2:dev", "submission.csv"),
    ],
)
def test_the_official_file_reads_back_to_the_same_figures(
    world: World, tmp_path: Path, name: str, goal: Goal, split: str, file: str
) -> None:
    config = world.config(world.checkpoint(name, goal), split, examples_shown=0)
    result = run_test(config, str(tmp_path))
    given = predictions.read(tmp_path / file)
    assert given == predictions.read(tmp_path / "predictions.json")
    dataset, part = find_split(split)
    examples = open_examples(dataset, part, config.data)
    metrics = score(dataset.spec.metric, examples, given)
    overall = {figure.name: figure.value for figure in result.metrics if not figure.group}
    assert overall == metrics.values
    assert metrics.missing == metrics.unknown == ()


def test_consistency_is_resampled_by_its_sentences(world: World, tmp_path: Path) -> None:
    config = world.config(world.checkpoint("visualbert", TRUTH, prefers=1), "nlvr2:dev")
    by_name = {figure.name: figure for figure in run_test(config, str(tmp_path)).metrics}
    assert (by_name["accuracy"].count, by_name["accuracy"].value) == (12, 50)
    # Each sentence is right about one of its two pairs.
    assert (by_name["consistency"].count, by_name["consistency"].value) == (6, 0)
    assert by_name["consistency"].interval == (0, 0)


def test_a_limit_takes_examples_from_the_whole_split(world: World, tmp_path: Path) -> None:
    config = world.config(
        world.checkpoint("lxmert", ANSWERS), "vqa:val", limit=8, resamples=0, examples_shown=0
    )
    result = run_test(config, str(tmp_path))
    given = predictions.read(tmp_path / "predictions.json")
    assert list(given) == [str(1000 + number) for number in range(0, 24, 3)]
    assert result.metrics[0].count == 8
    assert result.metrics[0].interval is None
    assert "interval" not in table(result.metrics)


def test_a_split_without_labels_gets_predictions_alone(world: World, tmp_path: Path) -> None:
    config = world.config(world.checkpoint("lxmert", ANSWERS), "vqa:test")
    result = run_test(config, str(tmp_path))
    assert result.metrics == ()
    assert result.notes == (
        "the labels of vqa:test are not published: no metrics, only predictions, for 2 examples",
    )
    assert len(json.loads((tmp_path / "submission.json").read_text())) == 2
    assert json.loads((tmp_path / "metrics.json").read_text())["figures"] == {}
    assert (tmp_path / "index.html").is_file()


def test_answers_that_cannot_be_given_are_counted(world: World, tmp_path: Path) -> None:
    goal = Goal("labels", 8, ("no", "yes"), soft=True)
    config = world.config(world.checkpoint("lxmert", goal), "vqa:val", examples_shown=0)
    notes = run_test(config, str(tmp_path)).notes
    assert notes == (
        "upper bound on the score: 50.0 %, since 12 of 24 examples have no right answer among "
        "the model's 2 labels",
    )


def test_a_pretraining_has_its_losses(world: World, tmp_path: Path) -> None:
    goal = Goal("pretraining", 8, num_objects=9)
    config = world.config(world.checkpoint("lxmert", goal), "vqa:val")
    result = run_test(config, str(tmp_path))
    names = [figure.name for figure in result.metrics]
    assert names[0] == "loss"
    assert "loss/mlm" in names
    assert [Path(path).name for path in result.written] == ["metrics.json"]


def test_other_regions_are_warned_of_once(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {"detector": "vg", "weights_sha256": "0" * 64, "feature_dim": 8}
    checkpoint = world.checkpoint("lxmert", ANSWERS, provenance={"": before})
    with caplog.at_level(logging.WARNING, "vlray"):
        run_test(world.config(checkpoint, "vqa:val", examples_shown=0), str(tmp_path))
    said = [r.getMessage() for r in caplog.records if "detector: vg before" in r.getMessage()]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("goal", "options", "message"),
    [
        (ANSWERS, {"checkpoint": ""}, "CHECKPOINT is missing"),
        (ANSWERS, {"corpus": ""}, "DATA is missing"),
        (ANSWERS, {"corpus": "vqa:val,nlvr2:dev"}, "consists of 2 splits; test them one at a time"),
        (ANSWERS, {"corpus": "vqa:nothing"}, "nothing"),
        (
            Goal("labels", 8, ("no", "yes"), num_images=2),
            {"corpus": "nlvr2:dev"},
            r"labels \(no, yes, ...\) do not include False, True",
        ),
        (Goal("labels", 8, ("cat", "dog")), {}, "none of the 24 examples"),
        (Goal("choices", 8), {}, "was trained for choices .* the labels in vqa:val are answers"),
        (
            Goal("labels", 8, ("no", "yes"), num_images=2),
            {},
            "has 1 image, but the model was trained on examples with 2",
        ),
        (
            Goal("labels", 9, ("no", "yes")),
            {},
            "have length 8, but the model was trained on vectors of length 9",
        ),
        (ANSWERS, {"regions": ("nowhere",)}, "nowhere"),
        (ANSWERS, {"checkpoint": "nowhere"}, "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused(
    world: World, tmp_path: Path, goal: Goal, options: dict[str, object], message: str
) -> None:
    values = {"checkpoint": world.checkpoint("lxmert", goal), "corpus": "vqa:val"} | options
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_test(world.config(**values), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_images_without_regions_count_as_wrong(world: World, tmp_path: Path) -> None:
    few = write_output(str(tmp_path / "few"), [str(number) for number in range(1, 10)])
    checkpoint = world.checkpoint("lxmert", ANSWERS, prefers=3)
    config = world.config(checkpoint, "vqa:val", regions=(few,), examples_shown=0)
    result = run_test(config, str(tmp_path / "out"))
    assert result.metrics[0].value == pytest.approx(100 * 9 / 24)
    assert "no regions for 6 examples: counted as wrong" in result.notes


def test_choices_are_numbers_of_the_texts(world: World, tmp_path: Path) -> None:
    config = world.config(world.checkpoint("visualbert", Goal("choices", 8)), "vcr-qa:val")
    [figure] = run_test(config, str(tmp_path)).metrics
    given = json.loads((tmp_path / "predictions.json").read_text())
    assert set(given.values()) <= {0, 1, 2, 3}
    right = [choice == int(name.removeprefix("val-")) % 4 for name, choice in given.items()]
    assert (figure.name, figure.count) == ("accuracy", 12)
    assert figure.value == pytest.approx(100 * sum(right) / 12)


def test_phrases_are_found_among_the_regions(world: World, tmp_path: Path) -> None:
    checkpoint = world.checkpoint("visualbert", Goal("phrases", 8))
    config = world.config(checkpoint, "flickr30k-entities:test")
    by_name = {figure.name: figure for figure in run_test(config, str(tmp_path)).metrics}
    ranked = predictions.read(tmp_path / "predictions.json")
    assert {len(phrases) for phrases in ranked.values()} == {0, 2}
    # The box of one phrase is a region, of which there are four at most; the other's is none.
    assert by_name["R@1"].count == 24
    assert by_name["R@5"].value == 50
    assert (by_name["other"].group, by_name["other"].count) == ("phrase", 12)
    assert by_name["people"].value == 0


def test_retrieval_ranks_every_image_for_every_text(world: World, tmp_path: Path) -> None:
    checkpoint = world.checkpoint("lxmert", Goal("matching", 8))
    result = run_test(world.config(checkpoint, "vqa:val"), str(tmp_path))
    by_name = {figure.name: figure for figure in result.metrics}
    assert by_name["text to image R@1"].count == 24
    assert by_name["image to text R@10"].count == 12
    ranked = predictions.read(tmp_path / "predictions.json")
    assert all(sorted(images) == sorted(ranked["1000"]) for images in ranked.values())
    own = {str(1000 + number): str(number // 2 + 1) for number in range(24)}
    for k in (1, 5, 10):
        hits = [own[name] in images[:k] for name, images in ranked.items()]
        assert by_name[f"text to image R@{k}"].value == pytest.approx(100 * sum(hits) / 24)
    assert 0 < by_name["text to image R@10"].value <= 100
    assert (tmp_path / "index.html").is_file()


def test_retrieval_is_limited_by_its_images(world: World, tmp_path: Path) -> None:
    checkpoint = world.checkpoint("lxmert", Goal("matching", 8))
    config = world.config(checkpoint, "vqa:val", limit=4, examples_shown=0)
    result = run_test(config, str(tmp_path))
    counts = {figure.name: figure.count for figure in result.metrics}
    assert counts["text to image R@1"] == 8
    assert counts["image to text R@1"] == 4
    assert {figure.value for figure in result.metrics if "R@5" in figure.name} == {100}
