"""``vlray tune`` from the command line to settings that ``vlray extract`` and ``train`` take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tests.deadlines import wait_until
from tests.fixtures.tiny import MODEL
from vlray import extract, train, tune
from vlray.regions.output import open_output

THRESHOLDS = ["nms_thresh=0.3,0.5,0.9", "score_thresh=0.02,0.1"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # run folders go there


@pytest.fixture(scope="module")
def truth(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes of the photographs: the middle, and the left half."""
    images, annotations = [], []
    for number, path in enumerate(sorted(photos.iterdir())):
        with Image.open(path) as image:
            width, height = image.size
        images.append({"id": number, "file_name": path.name})
        for bbox in ([width / 4, height / 4, width / 2, height / 2], [0, 0, width / 2, height]):
            about = {"image_id": number, "category_id": 1, "iscrowd": 0, "bbox": bbox}
            annotations.append({"id": len(annotations), "area": bbox[2] * bbox[3]} | about)
    file = tmp_path_factory.mktemp("truth") / "truth.json"
    categories = [{"id": 1, "name": "thing"}]
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return file


@pytest.fixture
def data(tiny_data: Path) -> Path:
    return tiny_data


def training(data: Path, *more: str) -> list[str]:
    """Give what stands behind the mark for a training of six steps."""
    return [
        *("--", "train", "vqa-rad:train", str(data / "regions"), "--model.name", MODEL),
        *("--batch-size", "8", "--steps", "6", "--no-tensorboard", "--evaluate-every", "3"),
        *("--data.annotations", f"vqa-rad={data / 'vqa-rad'}"),
        *("--data.cache-dir", str(data / "cache"), *more),
    ]


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        tune.main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_a_search_ends_in_settings_that_give_the_regions_that_it_measured(
    ray_cluster, photos, truth, tmp_path, capsys
) -> None:
    search = [
        *("sweep", "--objective", "ar@36", "--truth", str(truth), "--space", *THRESHOLDS),
        *("--", "extract", str(photos), "--min-boxes", "4", "--compression", "none"),
    ]
    tune.main(search)
    shown = capsys.readouterr()
    table = pq.read_table("sweep/trials.parquet").to_pylist()
    by = {row["trial"]: row for row in table}
    assert len(table) == 7
    assert {row["state"] for row in table} == {"finished"}
    values = [row["ar@36"] for row in table]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1
    assert shown.out.splitlines()[-1].split()[:3] == ["defaults", "0", "0.2"]
    best = max(row["ar@36"] for row in table if row["trial"] != "defaults")
    assert f"best ar@36 {best:.4g} at nms_thresh=" in shown.err
    assert f"; {by['defaults']['ar@36']:.4g} with the default settings" in shown.err
    for name in ("objective.png", "pareto.png"):
        with Image.open(tmp_path / "sweep" / name) as picture:
            assert picture.size[0] >= 600

    # The file is taken as it is, and gives what the trial measured.
    settings = yaml.safe_load((tmp_path / "sweep" / "best.yaml").read_text())
    assert settings.keys() == {"detector"}
    fixed = [str(photos), "regions", "--min-boxes", "4", "--compression", "none"]
    extract.main([*fixed, "--config", "sweep/best.yaml"])
    first = next(row for row in table if row["trial"] != "defaults")
    tried = {name: first[f"detector.{name}"] for name in ("nms_thresh", "score_thresh")}
    assert settings["detector"] == tried
    regions = open_output("regions")
    counts = [len(regions[name].boxes) for name in regions.image_ids]
    assert np.mean(counts) == pytest.approx(first["boxes"])

    # The same command again has nothing to do; another objective is refused.
    before = (tmp_path / "sweep" / "trials.jsonl").read_bytes()
    tune.main(search)
    assert (tmp_path / "sweep" / "trials.jsonl").read_bytes() == before
    assert "6 settings to try (6 already tried)" in capsys.readouterr().err
    search[2] = "ar@10"
    assert "  objective: ar@36 there, ar@10 here" in refusal(search, capsys)


@pytest.mark.thorough
def test_input_size_is_searched_by_proposals_of_each_and_optuna_goes_on_with_more_trials(
    ray_cluster, photos, truth, tmp_path, capsys
) -> None:
    def search(trials: int) -> list[str]:
        return [
            *("sweep", "--objective", "recall", "--truth", str(truth), "--search", "optuna"),
            *("--space", "min_size=160", "score_thresh=0.02..0.4", "--trials", str(trials)),
            *("--", "extract", str(photos)),
        ]

    tune.main(search(2))
    lines = (tmp_path / "sweep" / "trials.jsonl").read_text().splitlines()
    assert len(lines) == 3
    # One more of the detector's own size, for the trial with the default settings.
    assert len(list((tmp_path / "sweep" / "proposals").glob("*/boxes/regions"))) == 2
    tune.main(search(4))
    more = (tmp_path / "sweep" / "trials.jsonl").read_text().splitlines()
    assert more[:3] == lines
    assert len(more) == 5
    table = pq.read_table("sweep/trials.parquet").to_pylist()
    assert all(row["images_per_s"] > 0 for row in table)
    assert {row["detector.min_size"] for row in table} == {None, 160}


def test_a_search_among_trainings_is_killed_and_goes_on_without_repeating_any(
    ray_cluster, data, tmp_path, capsys
) -> None:
    search = [
        *("sweep", "--space", "lr=0.0001,0.03", "--cluster.concurrent", "1"),
        *training(data, "--holdout", "0.2"),
    ]
    command = [sys.executable, "-m", "vlray.tune", *search]
    ledger = tmp_path / "sweep" / "trials.jsonl"
    with (tmp_path / "words.txt").open("w") as words:
        process = subprocess.Popen(
            command,
            env=os.environ | {"RAY_ADDRESS": ray_cluster},
            stdout=words,
            stderr=words,
        )
    try:
        wait_until(
            lambda: (
                process.poll() is not None
                or (ledger.is_file() and ledger.read_text().endswith("\n"))
            ),
            240,
            failure=(tmp_path / "words.txt").read_text,
        )
        assert process.poll() is None, (tmp_path / "words.txt").read_text()
    finally:
        process.kill()
        process.wait()
    kept = ledger.read_text().splitlines()
    assert len(kept) < 3
    tune.main(search)
    shown = capsys.readouterr().out
    lines = ledger.read_text().splitlines()
    assert lines[: len(kept)] == kept
    trials = [json.loads(line) for line in lines]
    assert [trial["state"] for trial in trials] == ["finished"] * 3
    assert len({json.dumps(trial["setting"]) for trial in trials}) == 3
    best = max(trials, key=lambda trial: trial["figures"]["exact match"])
    assert f"{best['figures']['exact match']:.4g}" in shown
    fixed = training(data, "--holdout", "0.2", "--config", "sweep/best.yaml", "--steps", "1")
    train.main([*fixed[2:], "--output", "model"])
    assert (tmp_path / "model" / "best").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--objective", "ar@36"], "the objective ar@36 needs ground-truth boxes"),
        (["--objective", "ar@35"], "unknown objective 'ar@35'; did you mean ar@36?"),
        ([], "--objective is missing; pass one of ar@10"),
        (["--objective", "images_per_s"], "does not depend on the selection"),
        (["--objective", "downstream"], "must be used together"),
        (["--objective", "boxes", "--search", "random"], "--trials N"),
        (["--objective", "boxes", "--scheduler", "asha"], "remove it, or search -- train"),
        (["--objective", "ar@36", "--truth", "none.json"], "none.json"),
    ],
)
def test_an_objective_without_what_it_needs_is_refused(photos, arguments, words, capsys) -> None:
    space = ["--space", "nms_thresh=0.3,0.5"]
    assert words in refusal(["sweep", *arguments, *space, "--", "extract", str(photos)], capsys)
    assert not Path("sweep").exists()


@pytest.mark.parametrize(
    ("space", "behind", "words"),
    [
        ("nms_thresh=0.3..0.9", [], "but a grid needs a number of values"),
        ("nms_tresh=0.3", [], "did you mean detector.nms_thresh?"),
        ("max_boxes=2,3", ["--min-boxes", "5"], "no setting of the space is valid"),
        ("post_nms_topk=50,100", [], "post_nms_topk"),
        ("name=lite,no-such", [], "unknown detector 'no-such'"),
        ("nms_thresh=0.3,0.5", ["--features", "grid"], "turn off the selection"),
    ],
)
def test_a_space_that_is_impossible_is_refused(photos, space, behind, words, capsys) -> None:
    own = ["sweep", "--objective", "boxes", "--space", space]
    assert words in refusal([*own, "--", "extract", str(photos), *behind], capsys)


def test_a_training_downstream_is_judged_by_a_figure_that_is_known(
    photos, data, tmp_path, capsys
) -> None:
    settings = {
        "corpus": "vqa-rad:train",
        "objective": "pretraining",
        "data": {"annotations": {"vqa-rad": str(data / "vqa-rad")}},
    }
    own = ["sweep", "--objective", "downstream", "--downstream", "train.yaml"]
    behind = ["--space", "max_boxes=5,10", "--", "extract", str(photos)]
    for more, words in (
        ({}, "pass valid (DATASET:SPLIT) or holdout (0.2) in train.yaml"),
        ({"validation": {"holdout": 0.2}}, "name the metric to optimize"),
        ({"validation": {"holdout": 0.2}, "corpus": "no-such:train"}, "no-such"),
    ):
        (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings | more))
        assert words in refusal([*own, *behind], capsys)


def test_labels_that_the_truth_lacks_are_said(photos, truth, tmp_path, capsys) -> None:
    found = json.loads(truth.read_text())
    del found["categories"]
    (tmp_path / "plain.json").write_text(json.dumps(found))
    for objective, what in (("label_accuracy", "classes"), ("attribute_accuracy", "attributes")):
        own = ["sweep", "--objective", objective, "--truth", "plain.json"]
        behind = ["--space", "min_size=160,240", "--", "extract", str(photos)]
        assert f"plain.json has no {what} of its boxes" in refusal([*own, *behind], capsys)


@pytest.mark.parametrize(
    ("arguments", "behind", "words"),
    [
        ([], [], "pass valid (DATASET:SPLIT) or holdout (0.2) after --"),
        (["--objective", "exact mach"], ["--holdout", "0.2"], "did you mean exact match?"),
        (["--truth", "x.json"], ["--holdout", "0.2"], "truth is an option for -- extract"),
        ([], ["--holdout", "0.2", "--data.on-bad", "x"], "--data.on-bad"),
    ],
)
def test_trainings_that_do_not_compare_are_refused(data, arguments, behind, words, capsys) -> None:
    own = ["sweep", "--space", "lr=0.1,0.2", *arguments]
    assert words in refusal([*own, *training(data, *behind)], capsys)


def test_more_than_the_cluster_has_is_refused(ray_cluster, data, photos, capsys) -> None:
    own = ["sweep", "--space", "lr=0.1,0.2"]
    behind = training(data, "--holdout", "0.2")
    assert "a trial takes 1 CPUs and 2 GPUs, but none of the cluster's" in refusal(
        [*own, "--cluster.gpus-per-trial", "2", *behind], capsys
    )
    assert "cluster.use_gpu is yes, but none of" in refusal(
        [*own, *behind, "--use-gpu", "yes"], capsys
    )


def test_a_sweep_in_object_storage_is_refused_and_so_are_images_without_credentials(
    bucket, photos, monkeypatch, capsys
) -> None:
    own = ["--objective", "boxes", "--space", "nms_thresh=0.3,0.5", "--", "extract"]
    assert "a sweep must be on a disk" in refusal([f"{bucket}/sweep", *own, str(photos)], capsys)
    missing = bucket.replace("s3://vlray-", "s3://no-vlray-")
    assert f"there is no {missing}; pass IMAGES after --" in refusal(
        ["sweep", *own, missing], capsys
    )
