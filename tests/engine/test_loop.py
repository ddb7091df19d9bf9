"""Trainings in this process: what is computed, and that a broken one goes on bit by bit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.tiny import losses
from vlray.config.train import TrainConfig
from vlray.engine.stop import StopRequest
from vlray.engine.work import work
from vlray.installation.configs import shipped
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint

Make = Callable[..., TrainConfig]


class StopAfter(StopRequest):
    """Wants to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def requested(self) -> bool:
        self._left -= 1
        return self._left <= 0


def weights(config: TrainConfig, which: str = "last") -> dict[str, torch.Tensor]:
    return load_file(Path(config.output, which, "tiny.safetensors"))


def are_equal(one: TrainConfig, other: TrainConfig) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize(
    "options",
    [
        {"training": {"steps": 20}},  # the stop is in the second epoch of 12 steps
        {"training": {"accumulate": 2, "precision": "fp16"}},
        {
            "training": {"steps": 30},
            "validation": {"holdout": 0.2},
            "optim": {"optimizer": "adamw"},
        },
    ],
    ids=["plain", "accumulated fp16", "evaluated adamw"],
)
def test_a_stopped_training_goes_on_to_the_same_losses_and_weights(
    make: Make, tmp_path: Path, options: dict[str, dict[str, object]]
) -> None:
    options["model"] = {"architecture": {"dropout": 0.2}}
    whole, broken = make("whole", **options), make("broken", **options)
    progress = work(whole, tmp_path / "run")
    assert progress.ended
    half = progress.steps * 3 // 4
    stopped = work(broken, tmp_path / "first", StopAfter(half))
    assert (stopped.step, stopped.ended) == (half, False)
    assert work(broken, tmp_path / "second").ended
    assert losses(tmp_path / "run") == losses(tmp_path / "second")
    assert losses(tmp_path / "first") == losses(tmp_path / "run")[:half]
    assert are_equal(whole, broken)
    assert len(set(losses(tmp_path / "run"))) == progress.steps


def test_accumulated_batches_are_the_step_of_one_batch(make: Make, tmp_path: Path) -> None:
    for name, accumulate in (("one", 1), ("four", 4)):
        work(make(name, training={"accumulate": accumulate}), tmp_path / name)
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert one == pytest.approx(four, rel=1e-5)


def test_16_bits_give_nearly_the_losses_of_32(make: Make, tmp_path: Path) -> None:
    curves = {}
    for precision in ("fp32", "bf16", "fp16"):
        work(make(precision, training={"precision": precision}), tmp_path / precision)
        curves[precision] = losses(tmp_path / precision)
    for precision in ("bf16", "fp16"):
        assert curves[precision] != curves["fp32"]
        assert curves[precision] == pytest.approx(curves["fp32"], rel=0.02)


def test_layers_computed_twice_and_frozen_parts_keep_their_names(
    make: Make, tmp_path: Path
) -> None:
    model = {"architecture": {"dropout": 0.2}}
    plain = make("plain", model=model)
    twice = make("twice", model=model | {"activation_checkpointing": True})
    frozen = make("frozen", model=model | {"freeze": ("layers.*", "words.weight")})
    for config in (plain, twice, frozen):
        work(config, tmp_path / Path(config.output).name)
    assert losses(tmp_path / "plain") == losses(tmp_path / "twice")
    assert are_equal(plain, twice)
    changed = {
        name
        for name, value in weights(frozen).items()
        if not torch.equal(value, weights(plain)[name])
    }
    assert changed == {name for name in weights(plain) if not name.startswith("unused")}
    again = work(make("again", model=model, training={"steps": 1, "epochs": 1}), tmp_path / "again")
    assert again.ended
    before = weights(make("again"))  # the first step of a warm-up changes nothing
    same = {name for name, value in weights(frozen).items() if torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in same} == {"layers", "words", "unused"}


def test_the_best_and_the_last_are_kept_and_a_training_ends_early(
    make: Make, tmp_path: Path
) -> None:
    training = {"steps": 60, "evaluate_every": 2, "save_every": 3, "patience": 3}
    # At such a rate nothing gets better for long.
    config = make(
        validation={"valid": "vqa-rad:test"}, training=training, optim={"lr": 0.3, "warmup": 0.5}
    )
    progress = work(config, tmp_path / "run")
    assert progress.ended
    assert progress.step < 60
    assert progress.since_best == 3
    assert progress.step == progress.best_step + 6
    out = Path(config.output)
    folders = sorted(path.name for path in out.glob("step-*"))
    assert folders == [f"step-{step:08d}" for step in (progress.best_step, progress.step)]
    assert (out / "best").readlink().name == folders[0]
    assert (out / "last").readlink().name == folders[1]
    assert (out / "best" / "state.pt").exists()  # to resume from where the last is damaged
    assert (out / "last" / "state.pt").exists()
    info = CheckpointInfo.read(out / "best")
    assert info.metrics == progress.best
    assert next(iter(info.metrics)) == "exact match"
    assert info.corpus == "vqa-rad:train"


def zero_a_third(path: Path) -> None:
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_refused_by_name(make: Make, tmp_path: Path) -> None:
    config = make(training={"steps": 8})
    work(config, tmp_path / "run", StopAfter(2))
    last = Path(config.output, "last").resolve()
    for name, model in (("state.pt", False), ("tiny.safetensors", True)):
        whole = (last / name).read_bytes()
        zero_a_third(last / name)
        with pytest.raises(ValueError, match=rf"{name} is damaged: .* start again in another OUT"):
            work(config, tmp_path / "run")
        if model:
            with pytest.raises(ValueError, match=f"{name} is damaged: .* pass another one"):
                load_checkpoint(last, config.model.name)
            weights_of = {"name": config.model.name, "weights": str(last)}
            with pytest.raises(ValueError, match=f"{name} is damaged"):
                work(make("other", model=weights_of), tmp_path / "run")
        else:
            load_checkpoint(last, config.model.name)  # testing needs no state
        (last / name).write_bytes(whole)
    assert work(config, tmp_path / "run").ended


@pytest.mark.parametrize(("small", "is_named"), [(101, True), (100, False)])
def test_few_examples_name_the_settings_made_for_them(
    make: Make,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    small: int,
    is_named: bool,
) -> None:
    assert "train/small-data.yaml" in shipped()
    monkeypatch.setattr("vlray.engine.work.SMALL", small)  # there are 100 examples
    with caplog.at_level(logging.INFO, logger="vlray"):
        work(make(training={"steps": 1}), tmp_path / "run")
    assert ("configs/train/small-data.yaml" in caplog.text) == is_named


def test_where_the_last_checkpoint_is_damaged_the_best_one_is_resumed(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = {"steps": 60, "evaluate_every": 2, "save_every": 3, "patience": 3}
    # At such a rate nothing gets better for long, so that the best is not the last.
    optim = {"lr": 0.3, "warmup": 0.5}
    config = make(training=training, optim=optim, validation={"valid": "vqa-rad:test"})
    assert work(config, tmp_path / "run").ended
    out, expected = Path(config.output), weights(config)
    best, last = (out / "best").resolve(), (out / "last").resolve()
    assert best != last
    zero_a_third(last / "state.pt")
    assert work(config, tmp_path / "again").ended
    assert "state.pt is damaged" in caplog.text
    assert f"resuming from the older checkpoint {best}" in caplog.text
    for name, value in weights(config).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    assert losses(tmp_path / "again") == losses(tmp_path / "run")


def test_a_model_learns_and_is_measured_with_the_labels_of_the_training(
    make: Make, tmp_path: Path
) -> None:
    config = make(
        training={"steps": 0, "epochs": 12.5},
        optim={"optimizer": "adamw", "lr": 0.02},
        validation={"holdout": 0.3},
    )
    progress = work(config, tmp_path / "run")
    assert progress.steps == round(12.5 * (progress.steps // 12.5))
    assert progress.best["exact match"] > 80


def test_a_loss_that_is_not_a_number_stops_and_names_its_examples(
    make: Make, tmp_path: Path
) -> None:
    model = {"architecture": {"nan_at": "33"}}
    config = make(model=model, training={"steps": 24, "save_every": 2})
    (tmp_path / "run").mkdir()
    with pytest.raises(FloatingPointError, match=r"nan-batch\.json") as caught:
        work(config, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "nan-batch.json").read_text())
    assert "33" in [example["example_id"] for example in found["examples"]]
    assert len(found["examples"]) == 8
    step = CheckpointInfo.read(Path(config.output, "last")).step
    assert step == (found["step"] - 1) // 2 * 2 > 0
    assert "last checkpoint is unchanged" in str(caught.value)
