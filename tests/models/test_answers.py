"""What a trained answer head knows, carried over to other answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.models.pretraining_batches import DIM, SMALL
from vlray.config.model import ModelSection
from vlray.models.answers import rows_by_answer
from vlray.models.lxmert import Lxmert
from vlray.models.lxmert_pretraining import LxmertPretraining
from vlray.models.protocol import Goal
from vlray.tasks.answers import canonical

BEFORE = ("man", "2", "gray", "yes")
LAYERS = SMALL | {"l_layers": 1, "x_layers": 1, "r_layers": 1}
NOW = Goal("labels", DIM, labels=("yes", "two", "purple", "the man", "a grey"))
LAST = "network.answer_head.logit_fc.3"


def pretrained(folder: Path, *, told: bool = True) -> LxmertPretraining:
    """Save a pre-trained model; not ``told``: as the published one, without names of answers."""
    torch.manual_seed(0)
    goal = Goal("pretraining", DIM, labels=BEFORE)
    model = LxmertPretraining(ModelSection(architecture=LAYERS), goal)
    torch.nn.init.normal_(model.network.answer_head.logit_fc[3].bias)
    model.save(folder)
    if not told:
        config = json.loads((folder / "config.json").read_text())
        del config["id2label"], config["label2id"]
        (folder / "config.json").write_text(json.dumps(config))
    return model


def check_rows(before: LxmertPretraining, now: Lxmert | LxmertPretraining) -> None:
    old, new = before.state_dict(), now.state_dict()
    for name in (f"{LAST}.weight", f"{LAST}.bias"):
        for row, place in enumerate([3, 1, None, 0, 2]):
            wanted = torch.zeros_like(old[name][0]) if place is None else old[name][place]
            torch.testing.assert_close(new[name][row], wanted, rtol=0, atol=0)
    name = "network.answer_head.logit_fc.0.weight"
    torch.testing.assert_close(new[name], old[name], rtol=0, atol=0)


def test_answers_are_written_as_lxmert_wrote_them() -> None:
    answers = ["The man", "an Apple.", "three", "Grey", "a the cat", "", "eleven"]
    assert [canonical(a) for a in answers] == ["man", "apple", "3", "gray", "cat", "", "eleven"]


def test_a_label_is_found_as_it_is_before_it_is_rewritten() -> None:
    assert rows_by_answer(["2", "two", "a"], ["two", "2", "the 2", "cat"]) == [1, 0, 0, -1]


def test_fine_tuning_starts_from_the_rows_of_the_same_answers(tmp_path: Path) -> None:
    before = pretrained(tmp_path)
    now = Lxmert(ModelSection(weights=str(tmp_path)), NOW)
    check_rows(before, now)
    assert not now.new_parameters()


def test_pretraining_with_other_answers_goes_on_from_the_rows_of_the_same(tmp_path: Path) -> None:
    before = pretrained(tmp_path)
    goal = Goal("pretraining", DIM, labels=NOW.labels)
    check_rows(before, LxmertPretraining(ModelSection(weights=str(tmp_path)), goal))


def test_a_file_tells_the_answers_where_the_weights_do_not(tmp_path: Path) -> None:
    before = pretrained(tmp_path, told=False)
    file = tmp_path / "all_ans.json"
    file.write_text(json.dumps([{"ans": answer, "dsets": ["vqa"]} for answer in BEFORE]))
    check_rows(before, Lxmert(ModelSection(weights=str(tmp_path), answers=str(file)), NOW))
    file.write_text(json.dumps(["yes", "no"]))
    with pytest.raises(ValueError, match=r"has 2 answers, but the head of .* has 4"):
        Lxmert(ModelSection(weights=str(tmp_path), answers=str(file)), NOW)


def test_where_nothing_tells_the_answers_the_head_begins_anew(tmp_path: Path) -> None:
    pretrained(tmp_path, told=False)
    now = Lxmert(ModelSection(weights=str(tmp_path)), NOW)
    assert f"{LAST}.weight" in now.new_parameters()


def test_a_head_of_no_answer_in_common_is_left_as_it_was_drawn(tmp_path: Path) -> None:
    pretrained(tmp_path)
    goal = Goal("labels", DIM, labels=("entailment", "neutral", "contradiction", "?"))
    now = Lxmert(ModelSection(weights=str(tmp_path)), goal)
    assert now.state_dict()[f"{LAST}.weight"].abs().sum() > 0
    assert f"{LAST}.weight" in now.new_parameters()
