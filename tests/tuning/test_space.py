"""What is searched: options by their names, values by their options' types."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.config.tune import TuneConfig
from vlray.settings.reader import UsageError
from vlray.tuning.space import Choices, Range, draw, grid, read_space, size
from vlray.tuning.tuned import Tuned, read_tuned


def tuned(*args: str) -> Tuned:
    return read_tuned(TuneConfig(tuned=args))


EXTRACT = ("extract", "photos")
TRAIN = ("train", "vqa:train", "regions")


@pytest.mark.parametrize(
    ("command", "key", "text", "name", "values"),
    [
        (EXTRACT, "nms_thresh", "0.3,0.5", "detector.nms_thresh", (0.3, 0.5)),
        (EXTRACT, "nms-thresh", "0.3..0.9/3", "detector.nms_thresh", (0.3, 0.6, 0.9)),
        (EXTRACT, "detector.min_size", "400..600/3", "detector.min_size", (400, 500, 600)),
        (EXTRACT, "min_size", "1..3/9", "detector.min_size", (1, 2, 3)),
        (EXTRACT, "name", "lite,vg-caffe", "detector.name", ("lite", "vg-caffe")),
        (TRAIN, "lr", "1e-5..1e-3/3/log", "optim.lr", (1e-5, 1e-4, 1e-3)),
        (TRAIN, "betas", "[[0.9, 0.98], [0.8, 0.9]]", "optim.betas", ([0.9, 0.98], [0.8, 0.9])),
        (TRAIN, "architecture.l_layers", "2,4", "model.architecture.l_layers", (2, 4)),
        (TRAIN, "model.box_feats", "true,false", "model.box_feats", (True, False)),
        (TRAIN, "loader.max_tokens", "model,24", "loader.max_tokens", ("model", 24)),
        (TRAIN, "regions", "a,b", "regions", (["a"], ["b"])),
    ],
)
def test_values_are_read_by_the_options_type(
    command: tuple[str, ...], key: str, text: str, name: str, values: tuple[Any, ...]
) -> None:
    command = command[:2] if key == "regions" else command
    space = read_space({key: text}, tuned(*command))
    assert space == {name: Choices(values)}
    assert [type(value) for value in space[name].values] == [type(value) for value in values]


def test_a_range_knows_whole_numbers_and_logarithms() -> None:
    space = read_space({"lr": "1e-5..1e-3/log", "batch_size": "8..64"}, tuned(*TRAIN))
    assert space["optim.lr"] == Range(1e-5, 1e-3, is_int=False, is_log=True)
    assert space["training.batch_size"] == Range(8, 64, is_int=True, is_log=False)
    assert size(space) == float("inf")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({}, "nothing is searched"),
        ({"nms_tresh": "0.5"}, "did you mean detector.nms_thresh?"),
        ({"score_thresh": "0.5,1.5"}, "'1.5' is not a valid value of detector.score_thresh"),
        ({"score_thresh": "0.5..2"}, "'2' is not a valid value of detector.score_thresh"),
        ({"score_thresh": "0.5..0.2"}, "is empty: 0.5 is not below 0.2"),
        ({"score_thresh": "0.5..0.5"}, "is empty"),
        ({"score_thresh": "0.1..0.2/1"}, "a range needs at least two values"),
        ({"score_thresh": "0..0.2/log"}, "/log needs numbers above 0"),
        ({"score_thresh": ","}, "has no values"),
        ({"score_thresh": "[0.1"}, "is not a YAML list"),
        ({"score_thresh": "high"}, "'high' is not a valid value of detector.score_thresh"),
        ({"weights": "1..2"}, "detector.weights is not a number"),
        (
            {"nms_thresh": "0.5", "detector.nms_thresh": "0.6"},
            "--space has detector.nms_thresh twice",
        ),
        ({"images.root": "a,b"}, "so trials would not be comparable"),
        ({"detector.features": "none,pooled"}, "so trials would not be comparable"),
        (
            {"min_boxes": "10,20"},
            "detector.min_boxes is also an option of vlray extract after -- (10)",
        ),
        ({"progress": "bar,none"}, "so trials would not be comparable"),
    ],
)
def test_what_cannot_be_searched_is_refused(space: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=r"^(--space|nothing)") as error:
        read_space(space, tuned(*EXTRACT, "--min-boxes", "10"))
    assert words in str(error.value)


def test_a_name_of_several_options_has_to_be_said_whole() -> None:
    with pytest.raises(ValueError, match=r"root is ambiguous: give images\.root or data\.root"):
        read_space({"root": "a"}, tuned(*EXTRACT))


def test_a_grid_holds_every_combination_once() -> None:
    space = read_space({"nms_thresh": "0.3,0.5", "max_boxes": "36,50,100"}, tuned(*EXTRACT))
    settings = list(grid(space))
    assert len(settings) == size(space) == 6
    wanted = itertools.product((0.3, 0.5), (36, 50, 100))
    assert [tuple(setting.values()) for setting in settings] == list(wanted)


def test_a_grid_of_any_number_between_two_is_refused_with_the_ways_out() -> None:
    space = read_space({"nms_thresh": "0.3..0.9"}, tuned(*EXTRACT))
    with pytest.raises(ValueError, match=r"0\.3\.\.0\.9/5\); or give --search random"):
        list(grid(space))


@given(
    low=st.floats(1e-6, 10),
    ratio=st.floats(1.001, 1e6),
    is_log=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_drawn_lies_within_its_range(
    low: float, ratio: float, is_log: bool, seed: int
) -> None:
    domain = Range(low, low * ratio, is_int=False, is_log=is_log)
    first, second = (next(draw({"x": domain}, random.Random(seed)))["x"] for _ in range(2))
    assert low <= first <= low * ratio
    assert first == second


def test_a_setting_becomes_the_commands_settings_and_a_file_for_it() -> None:
    command = tuned(*EXTRACT, "--min-boxes", "10", "--id-rule", "coco", "--project", "p")
    config = command.config({"detector.max_boxes": 50}, "out")
    assert (config.detector.min_boxes, config.detector.max_boxes) == (10, 50)
    assert (config.output.path, config.project) == ("out", "p")
    assert command.fixed() == {
        "images": {"root": "photos", "id_rule": "coco"},
        "detector": {"min_boxes": 10},
    }
    with pytest.raises(ValueError, match=r"min_boxes=10 exceeds max_boxes=5"):
        command.config({"detector.max_boxes": 5}, "out")


def test_a_limit_that_is_searched_alone_is_followed_by_the_other() -> None:
    config = tuned(*EXTRACT).config({"detector.max_boxes": 5}, "out")
    assert (config.detector.min_boxes, config.detector.max_boxes) == (5, 5)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "vlray tune: no command to tune"),
        (("view", "regions"), "vlray tune: vlray view cannot be tuned; give extract or train"),
        (
            ("extract", "photos", "regions"),
            "OUT of vlray extract ('regions') is chosen by vlray tune",
        ),
        (("extract", "photos", "--nms-tresh", "0.5"), "did you mean --detector.nms-thresh?"),
        (("extract", "photos", "--max-boxes", "0"), "--detector.max-boxes is '0'"),
        (("extract",), "IMAGES (images.root) is missing"),
    ],
)
def test_a_mistake_behind_the_mark_is_named(args: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        tuned(*args)
    command = refused.value.command.command
    assert any(words in f"vlray {command}: {message}" for message in refused.value.messages)
