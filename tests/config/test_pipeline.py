"""The steps of a pipeline: whose settings they are, what they refer to, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray import pipeline
from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.steps import Step, resolve
from vlray.settings.reader import from_cli

STORY = """\
project: rad
values: {photos: /data/photos, number: 7}
shared:
  data: {annotations: {vqa-rad: /data/rad}}
steps:
  regions: {command: extract, images: {root: $photos/all}, detector: {max_boxes: $number}}
  model:
    command: train
    corpus: vqa-rad:train
    regions: $regions
  scores: {command: test, checkpoint: "${model}/best", corpus: "vqa-rad:test", output: out/scores}
"""


def steps_of(*args: str, text: str = STORY) -> dict[str, Step]:
    Path("story.yaml").write_text(text)
    config = from_cli(PipelineConfig, ["story.yaml", *args])
    return {step.name: step for step in resolve(config)}


def refusal(capsys: pytest.CaptureFixture[str], text: str, *args: str) -> str:
    Path("story.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        pipeline.main(["story.yaml", *args])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_each_step_has_its_own_settings_and_those_that_all_share() -> None:
    regions, model, scores = steps_of().values()
    assert [step.command for step in (regions, model, scores)] == ["extract", "train", "test"]
    assert {step.config.project for step in (regions, model, scores)} == {"rad"}
    assert regions.config.images.root == "/data/photos/all"
    assert regions.config.detector.max_boxes == 7
    assert "annotations" not in regions.config.resolved()["data"]
    assert model.config.data.annotations == {"vqa-rad": "/data/rad"}
    assert scores.config.data.annotations == {"vqa-rad": "/data/rad"}


def test_a_step_without_an_output_writes_below_the_pipelines_and_others_find_it_there() -> None:
    steps = steps_of()
    assert steps["regions"].output == "pipelines/story/regions"
    assert steps["model"].config.regions == ("pipelines/story/regions",)
    assert steps["scores"].config.checkpoint == "pipelines/story/model/best"
    assert steps["scores"].output == "out/scores"
    assert [step.after for step in steps.values()] == [(), ("regions",), ("model",)]
    assert steps_of("--output", "/x")["model"].output == "/x/model"


def test_flags_change_values_and_settings_of_steps() -> None:
    steps = steps_of(
        "--values", "photos=s3://b/p", "--steps", "model.training.steps=20",
        "--steps", "model.optim.lr=0.1", "--shared", "data.root=/d", "--project", "other",
        "--env.runs-dir", "/r",
    )  # fmt: skip
    assert steps["regions"].config.images.root == "s3://b/p/all"
    assert steps["model"].config.training.steps == 20
    assert steps["model"].config.optim.lr == 0.1
    assert steps["scores"].config.data.root == "/d"
    assert {step.config.project for step in steps.values()} == {"other"}
    assert {str(step.config.env.runs_dir) for step in steps.values()} == {"/r"}


def test_a_later_file_changes_what_an_earlier_one_says() -> None:
    Path("quick.yaml").write_text("steps: {model: {training: {steps: 5}}, scores: {limit: 3}}")
    Path("story.yaml").write_text(STORY)
    config = from_cli(PipelineConfig, ["--config", "story.yaml", "quick.yaml"])
    _, model, scores = resolve(config)
    assert model.config.training.steps == 5
    assert scores.config.limit == 3
    assert scores.output == "out/scores"


def test_a_step_starts_from_a_file_beside_the_pipelines_or_here(monkeypatch) -> None:
    Path("there").mkdir()
    Path("there/model.yaml").write_text("training: {steps: 9, batch_size: 4}\nproject: x\n")
    text = STORY.replace("command: train\n", "command: train\n    config: model.yaml\n")
    Path("there/story.yaml").write_text(text)
    config = from_cli(PipelineConfig, ["there/story.yaml", "--steps", "model.training.steps=2"])
    model = resolve(config)[1].config
    assert (model.training.steps, model.training.batch_size, model.project) == (2, 4, "rad")


def test_variables_and_lasting_settings_count_as_for_each_command(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "settings.yaml").write_text("detector: {name: vg-caffe}\noutput: everywhere\n")
    monkeypatch.setenv("VLRAY_TRAINING__STEPS", "3")
    steps = steps_of("--output", "o")
    assert steps["regions"].config.detector.name == "vg-caffe"
    assert steps["model"].config.training.steps == 3
    assert steps["model"].output == "o/model"


def test_the_settings_of_a_run_repeat_it() -> None:
    from vlray.runs.folder import to_yaml

    Path("story.yaml").write_text(STORY)
    config = from_cli(PipelineConfig, ["story.yaml", "--output", "o"])
    Path("settings.yaml").write_text(to_yaml(config.resolved()))
    assert resolve(from_cli(PipelineConfig, ["settings.yaml"])) == resolve(config)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("root: $photos/all", "roots: p", "step regions: unknown key images.roots; did you mean "
         "images.root?"),
        ("corpus: vqa-rad:train", "trainig: {steps: 3}", "step model: unknown key trainig.steps; "
         "did you mean training.steps?"),
        ("max_boxes: $number", "max_boxes: many", "step regions: detector.max_boxes is 'many'"),
        ("command: extract", "command: extrct",
         "step regions: unknown command 'extrct'; did you mean extract?"),
        ("command: extract", "command: pipeline", "step regions: unknown command 'pipeline'"),
        ("command: extract", "command: [extract]", "step regions: unknown command ['extract']"),
        ("command: extract, ", "", "step regions: no command; choose from: extract, "),
        ("regions: $regions", "regions: $regoins", "step model: $regoins is neither an earlier "
         "step nor an entry in values; did you mean regions?"),
        ("regions: $regions", "regions: $scores", "step model: $scores is the output of this "
         "step or a later one"),
        ("regions: $regions", "regions: out/scores/x", "step model reads out/scores, which the "
         "later step scores writes; put scores before model"),
        ("regions: $regions", "output: out/scores/\n    regions: $regions", "steps model and "
         "scores both write to out/scores"),
        ("corpus: vqa-rad:train", "", "step model: corpus is missing. Training data"),
        ("images: {root: $photos/all}, ", "", "step regions: IMAGES (images.root) is missing"),
        ("project: rad", "shared: {optm: {lr: 1}}", "shared: no step's command has the "
         "option optm.lr; did you mean optim.lr?"),
        ("corpus: vqa-rad:train", "env: {runs_dir: x}", "step model: env.runs_dir "
         "applies to the whole pipeline"),
        ("command: train", "command: train\n    config: nowhere.yaml", "step model: config: "
         "nowhere.yaml does not exist in the working directory"),
        ("photos: /data", "scores: /data", "scores is both a step and an entry in values"),
        ("photos: /data", "unused: 1, photos: /data", "values: no step uses $unused; remove it"),
        ("  model:", "  regions:", "story.yaml has two steps named regions (line 7)"),
        ("  model:", "  2nd:", "'2nd' is not a valid step name"),
        ("steps:", "stepps:", "unknown key stepps.regions.command (in story.yaml)"),
        ("  scores: {", "  scores: {}\n  more: {", "step scores in story.yaml is empty (line 11)"),
        ("  scores: {", "  scores: test\n  more: {", "step scores: a step must be a mapping"),
        ("  model:", "  model: {", "story.yaml is not valid YAML"),
        ("project: rad", "output: s3://b/o", "a pipeline needs a local folder for its state"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_by_the_name_of_its_step(capsys, old, new, said) -> None:
    assert old in STORY
    text = STORY.replace(old, new, 1)
    if new.startswith("shared:"):
        text = text.replace("shared:\n  data: {annotations: {vqa-rad: /data/rad}}\n", "")
    assert said in refusal(capsys, text)


def test_every_mistake_is_said_at_once(capsys) -> None:
    text = STORY.replace("root:", "rot:").replace("test,", "tset,").replace("train\n", "train\n", 1)
    said = refusal(capsys, text, "--only", "modle")
    assert "step regions: unknown key images.rot" in said
    assert "step scores: unknown command 'tset'; did you mean test?" in said
    assert "unknown step modle; did you mean model?" in said
    assert "step model" not in said  # what it refers to is named once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "story.yaml defines no steps; add steps"),
        ("- a\n- b\n", "story.yaml contains a list"),
        ("steps: [regions]\n", "steps (in story.yaml) is ['regions']"),
    ],
)
def test_a_file_without_steps_is_refused(capsys, text: str, said: str) -> None:
    assert said in refusal(capsys, text)


def test_the_file_itself_is_asked_for(capsys) -> None:
    with pytest.raises(SystemExit):
        pipeline.main([])
    assert "FILE is missing; pass a YAML file with named steps" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        pipeline.main(["nowhere.yaml"])
    assert "nowhere.yaml: no such file" in capsys.readouterr().err


def test_the_committed_pipeline_starts_from_the_committed_training() -> None:
    root = Path(__file__).parents[2] / "configs"
    for path in sorted((root / "pipeline").glob("*.yaml")):
        steps = {step.name: step for step in resolve(from_cli(PipelineConfig, [str(path)]))}
        weights = steps["model"].config.model.weights  # of the file in configs/train
        assert weights == ("minilm" if "rad" in path.name else "unc-nlp/lxmert-base-uncased")
        assert steps["model"].after == ("regions",)
