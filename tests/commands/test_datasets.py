"""``python -m vlray.datasets`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vlray import datasets
from vlray.tasks import catalogue

LAYOUT = """
import json

from vlray.tasks.example import Answers, Example

ROLES = {"lines": "required"}


def read(files, problems, options):
    with open(files["lines"][0]) as lines:
        for entry in map(json.loads, lines):
            label = Answers((entry["answer"],))
            yield Example(entry["id"], entry["text"], (entry["image"],), label)
"""


@pytest.fixture
def vlray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    """Run the command with a state of its own; give its status, output and errors."""
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VLRAY_DATA__CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        status = 0
        try:
            datasets.main(list(args))
        except SystemExit as stop:
            status = int(stop.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    return run


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A dataset of three questions on two images, of which one is there."""
    (tmp_path / "layout.py").write_text(LAYOUT)
    entries = [
        {"id": str(n), "text": "what?", "image": f"photo{n % 2}", "answer": "a cat"}
        for n in range(3)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, entries)))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "photo0.png")
    spec = {
        "name": "mine",
        "title": "Mine",
        "purposes": ["question answering"],
        "layout": "layout.py:read",
        "image_set": "photos",
        "labels": "answers",
        "metric": "exact match",
        "splits": {
            "train": {"files": {"lines": "train.jsonl"}},
            "test": {"files": {"lines": "test.jsonl"}, "download": ["https://example.org/t.zip"]},
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return str(tmp_path / "mine.yaml")


def test_a_dataset_of_ones_own_is_added_listed_shown_and_removed(vlray, mine) -> None:
    status, _, message = vlray("add", mine)
    assert status == 2
    assert "mine.yaml names the layout 'layout.py:read', and vlray imports no code" in message
    assert vlray("add", mine, "--trust-code")[0] == 0
    rows = [row.split() for row in vlray("list")[1].splitlines()]
    assert ["mine", "Mine", "question", "answering", "train", "test", "train"] in rows
    status, out, _ = vlray("show", "mine")
    assert status == 0
    for words in ("exact match", "https://example.org/t.zip", "answers: a cat", "text: what?"):
        assert words in out
    written = yaml.safe_load(vlray("show", "mine", "--spec")[1])
    assert catalogue.find("mine").spec.model_dump(mode="json", exclude_defaults=True) == written
    assert vlray("remove", "mine") == (0, "removed mine\n", "")
    assert vlray("show", "mine")[0] == 2


def test_a_check_says_what_is_missing_and_ends_with_status_1(vlray, mine, tmp_path) -> None:
    vlray("add", mine, "--trust-code")
    status, out, _ = vlray("check", "mine")
    assert status == 1
    assert "3 examples, 2 images" in out
    assert "1 of 2 are missing in ./photos, such as photo1" in out
    assert "download them from https://example.org/t.zip" in out
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "photo1.png")
    assert vlray("check", "mine", "--split", "train")[0] == 0
    assert vlray("check", "mine:train")[0] == 0
    assert vlray("check", "mine:test")[0] == 1


def test_a_check_with_regions_names_the_images_that_lack_them(vlray, mine, tmp_path) -> None:
    import numpy as np

    from vlray.regions import parts
    from vlray.regions.batch import RegionBatch
    from vlray.regions.schema import regions_schema, to_table

    batch = RegionBatch(
        np.full((1, 2), 9, np.int32), np.ones(1, np.int32), np.array([[0, 0, 9, 9]], np.float32),
        np.zeros((1, 4), np.float32),
    )  # fmt: skip
    table = to_table(batch, ["photo0"], ["photo0.png"], [""], regions_schema(4))
    (tmp_path / "out" / parts.REGIONS).mkdir(parents=True)
    part = tmp_path / "out" / parts.REGIONS / parts.part_name(0)
    part.write_bytes(parts.encode_regions(table, "zstd"))
    about = {"dataset": "photos", "images_root": "photos", "detector": {}, "settings": {}}
    about |= {"vlray_version": "0", "schema_version": 1}
    (tmp_path / "out" / parts.SETTINGS).write_text(json.dumps(about))
    vlray("add", mine, "--trust-code")
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "photo1.png")
    status, out, _ = vlray("check", "mine:train", "--regions", "out")
    assert status == 1
    assert "regions: 1 of 2 are missing in out, such as photo1" in out


def test_a_corpus_is_kept_shown_and_checked_by_its_name(vlray, mine) -> None:
    vlray("add", mine, "--trust-code")
    status, out, err = vlray("corpus", "both", "mine:train,mine:test", "--mix", "round-robin")
    assert (status, err) == (0, "")
    assert "corpus both of project default" in out
    assert "corpora of project default: both" in vlray("list")[1]
    assert "mix: round-robin" in vlray("show", "both")[1]
    status, out, _ = vlray("check", "both")
    assert status == 1
    assert "mine:train" in out
    assert "mine:test" in out
    assert "unknown split of mine 'tset'" in vlray("corpus", "x", "mine:tset")[2]
    assert (
        "is a dataset; choose another name for the corpus"
        in vlray("corpus", "mine", "mine:test")[2]
    )


def test_predictions_are_scored_by_the_datasets_metric(vlray, mine, tmp_path) -> None:
    vlray("add", mine, "--trust-code")
    (tmp_path / "predictions.json").write_text('{"0": "a cat", "1": "a dog", "9": "a cat"}')
    status, out, _ = vlray("score", "mine:train", "predictions.json")
    assert status == 0
    assert "33.33" in out
    assert "1 example without a prediction, counted as wrong, such as 2" in out
    assert "1 prediction for ids that are not in the split, such as 9" in out
    assert "score NAME needs a FILE of predictions" in vlray("score", "mine:train")[2]


def test_the_published_files_are_read(vlray, shared, tmp_path) -> None:
    fixtures = shared / "fixtures"
    given = [
        f"--data.{kind}={name}={fixtures / folder}"
        for name, folder in (("vqa-rad", "vqa_rad"), ("nlvr", "nlvr"))
        for kind in ("annotations", "images")
    ]
    status, out, _ = vlray("check", "vqa-rad", *given)
    assert status == 0
    assert "3,064 examples, 314 images" in out
    assert "451 examples, 203 images" in out
    out = vlray("check", "nlvr:dev", *given)[1]
    assert "5,934 examples" in out
    assert "image files: all 5,934 are in" in out
    (tmp_path / "nlvr2").mkdir()
    (tmp_path / "nlvr2" / "dev.json").symlink_to(fixtures / "nlvr2" / "dev_first200.jsonl")
    status, out, _ = vlray("check", "nlvr2:dev")
    assert "200 examples, 228 images" in out
    assert (status, "228 of 228 are missing in ./nlvr2, such as" in out) == (1, True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("show", "mien"), "unknown dataset 'mien'; did you mean mine?"),
        (("check", "mine:trian"), "unknown split of mine 'trian'; did you mean train?"),
        (("check", "mine", "--split", "val"), "unknown split of mine 'val'; There are train, test"),
        (("check", "mine:test", "--split", "train"), "mine:test already names a split"),
        (("list", "--purpose", "groundin"), "unknown purpose 'groundin'; did you mean grounding?"),
        (("list", "mine"), "list takes no name; use: vlray datasets show mine"),
        (("lst",), "it should be 'list', 'show'"),
        (("check",), "check needs NAME"),
        (("add", "nothing.yaml"), "nothing.yaml does not exist"),
    ],
)
def test_mistakes_end_with_status_2_and_the_choices(vlray, mine, args, said) -> None:
    vlray("add", mine, "--trust-code")
    status, out, err = vlray(*args)
    assert (status, out) == (2, "")
    assert said in err


def test_a_broken_file_is_not_in_order(vlray, tmp_path) -> None:
    (tmp_path / "texts").mkdir()
    folder = ("--data.annotations", "vqa-rad=texts")
    entry = {"image_name": "a.jpg", "question": "what?", "answer": "lung"}
    text = json.dumps([{**entry, "qid": number} for number in range(9)])
    (tmp_path / "texts" / "trainset.json").write_text(text)
    assert vlray("check", "vqa-rad:train", *folder)[0] == 0
    (tmp_path / "texts" / "trainset.json").write_text(text[: len(text) // 2])
    status, out, _ = vlray("check", "vqa-rad:train", *folder)
    assert (status, "breaks off after" in out) == (1, True)
    (tmp_path / "texts" / "trainset.json").write_text("[]")
    assert vlray("check", "vqa-rad:train", *folder)[0] == 1


def test_files_are_found_by_a_name_with_hyphens_in_a_variable(vlray, tmp_path, monkeypatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    entry = {"qid": 1, "image_name": "a.jpg", "question": "what?", "answer": "lung"}
    (tmp_path / "elsewhere" / "trainset.json").write_text(json.dumps([entry]))
    monkeypatch.setenv("VLRAY_DATA__ANNOTATIONS__VQA_RAD", str(tmp_path / "elsewhere"))
    assert vlray("check", "vqa-rad:train")[0] == 0


def test_a_spec_without_a_file_that_its_layout_needs_is_refused(vlray, mine, tmp_path) -> None:
    spec = yaml.safe_load(Path(mine).read_text())
    spec |= {"layout": "vqa_rad", "splits": {"train": {"files": {"question": "train.jsonl"}}}}
    Path(mine).write_text(yaml.safe_dump(spec))
    status, _, err = vlray("add", mine, "--trust-code")
    assert (status, "names no file for questions" in err) == (2, True)
    Path(mine).write_text(yaml.safe_dump(spec | {"id_rule": "stemm"}))
    status, _, err = vlray("add", mine, "--trust-code")
    assert (status, "use stem, path, key, coco or regex" in err) == (2, True)


def test_predictions_for_other_examples_are_refused_and_numbers_are_texts(
    vlray, mine, tmp_path
) -> None:
    vlray("add", mine, "--trust-code")
    (tmp_path / "other.json").write_text(json.dumps({"x": "a cat"}))
    status, _, err = vlray("score", "mine:train", "other.json")
    assert (status, "none of them for an example of mine:train" in err) == (2, True)
    (tmp_path / "numbers.json").write_text(json.dumps({"0": 3, "1": None, "2": "A cat "}))
    status, out, _ = vlray("score", "mine:train", "numbers.json")
    assert (status, "33.33" in out, "1 example without a prediction" in out) == (0, True, True)


def test_a_corpus_is_checked_against_the_outputs_that_its_parts_name(vlray, mine) -> None:
    vlray("add", mine, "--trust-code")
    vlray("corpus", "named", "mine:train@vg")
    status, _, err = vlray("check", "named", "--regions", "vg=nowhere,other=elsewhere")
    assert (status, "nowhere" in err, "elsewhere" in err) == (2, True, False)


def test_a_document_that_breaks_off_stops_and_metrics_name_what_they_lack(vlray, tmp_path) -> None:
    entry = {"image_name": "a.jpg", "question": "what?", "answer": "lung"}
    text = json.dumps([{**entry, "qid": number} for number in range(9)])
    (tmp_path / "trainset.json").write_text(text[: len(text) // 2])
    (tmp_path / "predictions.json").write_text('{"0": "lung", "1": "lung", "2": "lung"}')
    score = ("score", "vqa-rad:train", "predictions.json", "--data.annotations", "vqa-rad=.")
    status, out, err = vlray(*score)
    assert (status, out) == (2, "")
    assert "trainset.json breaks off after 4 entries" in err
    assert "--data.on-bad skip" in err
    status, out, _ = vlray(*score, "--on-bad", "skip")
    assert status == 0
    assert out.splitlines()[0] == (
        "exact match: 75.00 (over 4 examples; left out: 1 file that cannot be read to its end)"
    )


def test_an_annotation_without_a_question_fails_the_check(vlray, tmp_path) -> None:
    questions = [{"question_id": n, "image_id": n, "question": "what?"} for n in range(3)]
    annotations = [{"question_id": str(n), "answers": [{"answer": "a"}]} for n in range(5)]
    stem = "mscoco_train2014"
    (tmp_path / f"v2_OpenEnded_{stem}_questions.json").write_text(
        json.dumps({"questions": questions})
    )
    path = tmp_path / f"v2_{stem}_annotations.json"
    check = ("check", "vqa:train", "--data.annotations", "vqa=.")
    path.write_text(json.dumps({"annotations": annotations[:3]}))
    assert vlray(*check)[0] == 0
    path.write_text(json.dumps({"annotations": annotations}))
    status, out, _ = vlray(*check)
    assert (status, "3 examples" in out) == (1, True)
    assert "2 annotations without a question" in out
