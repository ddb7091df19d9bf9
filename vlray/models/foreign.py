"""Weights of other code bases: their tensors' names and the configuration that follows from them.

The originals of LXMERT and VisualBERT, DataParallel and training scripts put other prefixes before
the names of transformers' parameters. Apart from that, the names differ in a few words.

Source:
    airsplay/lxmert src/lxrt/modeling.py, src/lxrt/entry.py; uclanlp/visualbert
    visualbert/pytorch_pretrained_bert/modeling.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

log = logging.getLogger("vlray.models")

_WORDS = ("module", "model", "bert", "lxmert", "visual_bert", "lxrt_encoder", "_orig_mod")
"""Parts that may precede a parameter's own name, in any order."""
KNOWN_PREFIXES = ", ".join(f"{word}." for word in _WORDS)

_RENAMED = (
    (re.compile(r"\.gamma$"), ".weight"),  # layer norms of TensorFlow's BERT
    (re.compile(r"\.beta$"), ".bias"),
    (re.compile(r"\b(token_type|position)_embeddings_visual\."), r"visual_\1_embeddings."),
    (re.compile(r"\bembeddings\.projection\."), "embeddings.visual_projection."),
)
_TOKENS = "embeddings.word_embeddings.weight"
_KINDS = (
    ("lxmert", "encoder.x_layers.0.visual_attention.att.query.weight"),
    ("visual_bert", "embeddings.visual_projection.weight"),
    ("bert", "encoder.layer.0.attention.self.query.weight"),
)
"""``model_type``, and a tensor that only this model and those listed before it have."""
_NUM_HEADS = {768: 12, 1024: 16}
"""Attention heads of the published sizes; tensors do not show their number."""


def rename(
    tensors: Mapping[str, Tensor], names: Collection[str], base: str, source: str
) -> dict[str, Tensor]:
    """Rename tensors to the names in a network; drop those that the network does not have.

    Of several prefixes, the encoder's tensors are those below the prefix that fills most of the
    encoder. The heads have the same prefix, or the beginning of it.

    Args:
        tensors: Tensors by the names in the file.
        names: Names of the network's parameters.
        base: Prefix of the encoder's parameters, such as ``lxmert.``; empty if the network is the
            encoder.
        source: The weights, for the log.

    Returns:
        Tensors by the names of the network, as far as the file has them.
    """
    tensors = _with_current_names(tensors)
    encoder = {name.removeprefix(base) for name in names if name.startswith(base)}
    heads = set(names) - {base + name for name in encoder}
    prefix = _fullest(_prefixes(tensors), encoder, tensors)
    outer = [each for each in _prefixes(tensors) if prefix.startswith(each)]
    head_prefix = _fullest(outer, heads, tensors)
    renamed = {base + n: tensors[prefix + n] for n in encoder if prefix + n in tensors}
    if sum(_filled(each, encoder, tensors) > 0 for each in _prefixes(tensors)) > 1:
        log.info(
            "%s has several encoders; the one below the prefix %r fills %d of %d tensors",
            source,
            prefix,
            len(renamed),
            len(encoder),
        )
    return renamed | {n: tensors[head_prefix + n] for n in heads if head_prefix + n in tensors}


def config_of(tensors: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Derive a configuration in the fields of transformers from the shapes of tensors.

    The number of attention heads is missing unless the hidden size is a published one.

    Args:
        tensors: Tensors by the names in the file.
        source: The file, for the message.

    Raises:
        ValueError: The tensors are not those of a BERT, LXMERT or VisualBERT.
    """
    tensors = _with_current_names(tensors)
    prefixes = [prefix for prefix in _prefixes(tensors) if prefix + _TOKENS in tensors]
    # Of several models in one file, the largest one.
    prefix = max(prefixes, key=lambda each: sum(n.startswith(each) for n in tensors), default="")
    shapes = {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    kind = next((kind for kind, name in _KINDS if name in shapes and _TOKENS in shapes), "")
    if not kind:
        raise ValueError(
            f"{source} has no weights of a BERT, LXMERT or VisualBERT: {_TOKENS} or the layers are "
            f"missing. Its tensors are {', '.join(sorted(tensors)[:3])}, ...; vlray recognizes "
            "tensors named as in the transformers library, also behind the prefixes "
            f"{KNOWN_PREFIXES}"
        )
    try:
        config: dict[str, Any] = {"model_type": kind} | _sizes(shapes, kind)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{source} lacks tensors of the encoder: {error}") from error
    if heads := _NUM_HEADS.get(config["hidden_size"]):
        config["num_attention_heads"] = heads
    return config | (_head_sizes(tensors) if kind == "lxmert" else {})


def _sizes(shapes: Mapping[str, tuple[int, ...]], kind: str) -> dict[str, int]:
    vocab_size, hidden_size = shapes[_TOKENS]
    sizes = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "max_position_embeddings": shapes["embeddings.position_embeddings.weight"][0],
        "type_vocab_size": shapes["embeddings.token_type_embeddings.weight"][0],
        "intermediate_size": shapes["encoder.layer.0.intermediate.dense.weight"][0],
    }
    if kind == "lxmert":
        return sizes | {
            "l_layers": _count(shapes, "layer"),
            "x_layers": _count(shapes, "x_layers"),
            "r_layers": _count(shapes, "r_layers"),
            "visual_feat_dim": shapes["encoder.visn_fc.visn_fc.weight"][1],
            "visual_pos_dim": shapes["encoder.visn_fc.box_fc.weight"][1],
        }
    sizes["num_hidden_layers"] = _count(shapes, "layer")
    if kind == "visual_bert":
        sizes["visual_embedding_dim"] = shapes["embeddings.visual_projection.weight"][1]
    return sizes


def _head_sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the numbers of labels of LXMERT's heads, as far as the file has the heads."""
    sizes = {}
    for field, ending in (
        # Index 3 is the last layer of the answer head.
        ("num_qa_labels", "answer_head.logit_fc.3.weight"),
        ("num_object_labels", "obj_predict_head.decoder_dict.obj.weight"),
        ("num_attr_labels", "obj_predict_head.decoder_dict.attr.weight"),
    ):
        for prefix in _prefixes(tensors):
            if prefix + ending in tensors:
                sizes[field] = len(tensors[prefix + ending])
    return sizes


def _count(shapes: Iterable[str], layers: str) -> int:
    """Return the number of layers in a list of layers of the encoder."""
    pattern = re.compile(rf"encoder\.{layers}\.(\d+)\.")
    return len({match[1] for name in shapes if (match := pattern.match(name))})


def _with_current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for old, tensor in tensors.items():
        name = old
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    return renamed


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes of names that consist of known parts; the shortest first."""
    prefixes = {""}
    for name in names:
        prefix = ""
        for part in name.split(".")[:-1]:
            if part not in _WORDS:
                break
            prefix += f"{part}."
            prefixes.add(prefix)
    return sorted(prefixes, key=lambda prefix: (len(prefix), prefix))


def _fullest(prefixes: Iterable[str], names: Collection[str], tensors: Collection[str]) -> str:
    """Return the prefix below which most names are; of equal ones, the first."""
    return max(prefixes, key=lambda prefix: _filled(prefix, names, tensors))


def _filled(prefix: str, names: Collection[str], tensors: Collection[str]) -> int:
    return sum(prefix + name in tensors for name in names)
