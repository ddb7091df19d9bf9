"""Trainings that start from weights of other code bases, and from BERTs of other vocabularies."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, LxmertConfig, LxmertForPreTraining

from tests.fixtures.commands import Call
from vlray import test as test_command
from vlray import train
from vlray.loader.text import Tokenizer
from vlray.loader.word_pieces import SPECIAL
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.store import locate
from vlray.models.weights import quiet

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
PIECES = (*SPECIAL, "is", "Is", "it", "even", "odd", "?", ",", "or", "do", "you")
FEW = "x_layers=1,r_layers=1,num_attention_heads=2"


@pytest.fixture
def run_train(tiny_data: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Train one step and more on the tiny VQA-RAD, into ``out``."""
    monkeypatch.chdir(tmp_path)
    given = ["vqa-rad:train", str(tiny_data / "regions"), "--no-tensorboard", *data_of(tiny_data)]
    given += ["--batch-size", "8", "--steps", "1", "--output", "out"]
    return lambda *more: call(train.main, *given, *more)


def data_of(tiny_data: Path) -> list[str]:
    return [
        *("--data.annotations", f"vqa-rad={tiny_data / 'vqa-rad'}"),
        *("--data.cache-dir", str(tiny_data / "cache")),
    ]


def write_bert(folder: Path) -> None:
    """Write a BERT with a cased vocabulary of its own."""
    torch.manual_seed(0)
    config = BertConfig(**SIZES, num_hidden_layers=1, vocab_size=len(PIECES))
    with quiet():
        BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))


def test_lxmerts_own_file_is_trained_and_tested(
    run_train: Call, call: Call, tiny_data: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers = {"l_layers": 1, "x_layers": 1, "r_layers": 1}
    old = LxmertForPreTraining(LxmertConfig(**SIZES, **layers, visual_feat_dim=8)).state_dict()
    names = {name: "module." + re.sub("^lxmert", "bert", name) for name in old}
    torch.save({names[name]: t for name, t in old.items()}, tmp_path / "Epoch20_LXRT.pth")
    few = ("--model.architecture", "num_attention_heads=2", "--optim.lr", "1e-9")
    done = run_train("--weights", "Epoch20_LXRT.pth", *few)
    assert done.status == 0, done.err
    assert "model.name is lxmert, detected from the weights Epoch20_LXRT.pth" in done.err
    assert re.search(r"from Epoch20_LXRT\.pth; newly initialized: answer_head\.logit_fc", done.err)
    trained = load_file(locate("out", "last") / "model.safetensors")
    name = "lxmert.encoder.x_layers.0.visual_attention.att.key.weight"
    torch.testing.assert_close(trained[name], old[name], atol=1e-6, rtol=0)
    done = call(test_command.main, "out", "vqa-rad:test", *data_of(tiny_data))
    assert done.status == 0, done.err


def test_a_cased_vocabulary_stays_with_the_model(
    run_train: Call, call: Call, tiny_data: Path, tmp_path: Path
) -> None:
    write_bert(tmp_path / "cased")
    options = ("--model.name", "lxmert", "--model.architecture", FEW)
    done = run_train("--weights", "cased", *options, "--steps", "2")
    assert done.status == 0, done.err
    assert "texts are encoded with the tokenizer cased/vocab.txt" in done.err
    shutil.rmtree(tmp_path / "cased")
    folder = locate("out", "last")
    path = CheckpointInfo.read(folder).loader.tokenizer
    assert path == str(folder / "tokenizer.json")
    tokenizer = Tokenizer(path)
    assert tokenizer.tokens(tokenizer(["Is it IT?"]).input_ids[0][1:-1]) == [
        "Is",
        "it",
        "[UNK]",
        "?",
    ]
    done = call(test_command.main, "out", "vqa-rad:test", *data_of(tiny_data))
    assert done.status == 0, done.err
    # The next training has the vocabulary of its weights, and keeps a copy.
    done = run_train("--weights", "out", "--output", "next")
    assert done.status == 0, done.err
    kept = (locate("next", "last") / "tokenizer.json").read_text()
    assert kept == (folder / "tokenizer.json").read_text()


def test_an_interrupted_training_goes_on_with_the_vocabulary_of_its_checkpoint(
    run_train: Call, tmp_path: Path
) -> None:
    write_bert(tmp_path / "cased")
    options = ("--model.name", "lxmert", "--model.architecture", FEW, "--weights", "cased")
    assert run_train(*options, "--steps", "4", "--save-every", "2").status == 0
    folder = locate("out", "last")
    state = json.loads((folder / "training.json").read_text())
    assert state["progress"]["ended"]
    vocabulary = (folder / "tokenizer.json").read_text()
    (folder / "training.json").write_text(
        json.dumps(state | {"progress": state["progress"] | {"ended": False}})
    )
    (folder / "checksums.json").unlink()
    shutil.rmtree(tmp_path / "cased")
    done = run_train(*options, "--steps", "6", "--save-every", "1")
    assert done.status == 0, done.err
    assert "resuming after step 4" in done.err
    assert locate("out", "last").name == "step-00000006"
    assert (locate("out", "last") / "tokenizer.json").read_text() == vocabulary


def test_a_vocabulary_that_does_not_fit_is_refused(run_train: Call, tmp_path: Path) -> None:
    write_bert(tmp_path / "cased")
    (tmp_path / "cased" / "vocab.txt").rename(tmp_path / "vocab.txt")
    options = ("--model.name", "lxmert", "--weights", "cased", "--model.architecture", FEW)
    done = run_train(*options)
    assert done.status == 2
    assert "bert-base-uncased has 30,522 word pieces, but the token embeddings of cased" in done.err
    assert f"have {len(PIECES)} rows; pass the vocabulary of these weights" in done.err
    done = run_train(*options, "--loader.tokenizer", "vocab.txt")
    assert done.status == 0, done.err
