"""The names of a command's options, and the closest match for an unknown name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vlray.settings.section import LOCATION
from vlray.settings.wording import similar

Path = tuple[str, ...]
"""Path of an option: ``("detector", "min_boxes")`` for ``detector.min_boxes``."""

ENV_PREFIX = "VLRAY_"

FLAGS_ONLY = frozenset({"config", "trust_code"})
"""Options that have no effect in a file."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "optim.lr": ("learning_rate", "base_lr", "max_lr"),
    "optim.warmup": ("warmup_ratio", "warmup_steps", "warmup_proportion", "num_warmup_steps"),
    "optim.decay": ("lr_scheduler", "lr_scheduler_type", "scheduler"),
    "optim.clip": ("max_grad_norm", "grad_clip", "clip_grad", "gradient_clip_val"),
    "training.epochs": ("num_epochs", "num_train_epochs", "max_epochs", "epoch"),
    "training.steps": ("max_steps", "num_steps", "total_steps", "max_iter", "iterations"),
    "training.batch_size": ("batch", "bs", "train_batch_size", "per_device_train_batch_size"),
    "training.accumulate": (
        *("gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "accum_steps"),
        "accumulate_grad_batches",
    ),
    "training.precision": ("fp16", "bf16", "fp32", "tf32", "amp", "half", "mixed_precision"),
    "training.seed": ("random_seed", "manual_seed"),
    "training.evaluate_every": ("eval_steps", "eval_every", "val_check_interval"),
    "training.save_every": ("save_steps", "checkpoint_every"),
    "training.log_every": ("logging_steps", "log_interval"),
    "training.patience": ("early_stopping", "early_stopping_patience"),
    "cluster.workers": ("num_workers", "num_gpus", "gpus", "devices", "nproc_per_node"),
    "model.weights": ("pretrained", "model_name_or_path", "init_from", "load"),
    "model.activation_checkpointing": ("gradient_checkpointing",),
    "validation.valid": ("val", "eval", "eval_data", "validation_split"),
    "loader.max_tokens": ("max_length", "max_seq_length", "max_seq_len"),
    # Options of `extract`, and options that several commands have.
    "cluster.actors": ("num_workers", "num_gpus", "gpus", "devices"),
    "detector.score_thresh": ("conf", "conf_thresh", "confidence", "threshold"),
    "detector.nms_thresh": ("iou", "nms", "nms_threshold"),
    "batch_size": ("batch", "bs", "eval_batch_size", "per_device_eval_batch_size"),
    "precision": ("fp16", "bf16", "fp32", "tf32", "amp", "half", "mixed_precision"),
    "seed": ("random_seed", "manual_seed"),
    "output": ("output_dir", "out", "out_dir", "save_dir"),
    "output.path": ("output_dir", "out", "out_dir", "save_dir"),
    "env.log_level": ("debug", "verbosity"),
    "env.console_level": ("silent",),
}
"""Names that other tools use for an option, keyed by its name in vlray."""


def options_of(model: type[BaseModel], section: Path = ()) -> dict[Path, FieldInfo]:
    """Return all options of a command, keyed by path, including options in sections."""
    options: dict[Path, FieldInfo] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            options |= options_of(field.annotation, (*section, name))
        else:
            options[*section, name] = field
    return options


def is_mapping(field: FieldInfo) -> bool:
    """Return whether the option is a mapping, whose entries the user names."""
    return get_origin(field.annotation) is dict


def is_location(field: FieldInfo) -> bool:
    """Return whether the option, or each entry of a mapping, is a `Location`."""
    metadata = list(field.metadata)
    for argument in get_args(field.annotation):
        metadata += getattr(argument, "__metadata__", ())
    return LOCATION in metadata


def find_option(path: Path, options: Mapping[Path, FieldInfo]) -> Path | None:
    """Return the option at ``path``, or the mapping option that ``path`` is an entry of."""
    if path in options:
        return path
    for length in range(1, len(path)):
        if path[:length] in options and is_mapping(options[path[:length]]):
            return path[:length]
    return None


def flatten(values: Mapping[str, object], section: Path = ()) -> dict[Path, object]:
    """Flatten nested mappings into one mapping keyed by path; ``nest`` is the inverse."""
    flat: dict[Path, object] = {}
    for key, value in values.items():
        path = (*section, str(key))
        if isinstance(value, Mapping):
            flat |= flatten(value, path)
        else:
            flat[path] = value
    return flat


def nest(flat: Mapping[Path, object]) -> dict[str, Any]:
    """Convert a mapping keyed by path to nested dictionaries."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        section = nested
        for key in path[:-1]:
            section = section.setdefault(key, {})
        section[path[-1]] = value
    return nested


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the dotted name closest to ``word``, comparing whole names and last parts.

    `SYNONYMS` take precedence over names that are spelled similarly.
    """
    names: dict[str, str] = {}
    for name in options:
        names.setdefault(name.rpartition(".")[2], name)  # for equal endings, the first
        names[name] = name
    leaf = word.rpartition(".")[2]
    for name, others in SYNONYMS.items():
        if name in names and leaf in others:
            return names[name]
    close = similar(word, names) or similar(leaf, names)
    return names[close[0]] if close else None
