"""Settings of ``vlray export``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.data import DataSection
from vlray.settings.base import Command


class ExportConfig(Command):
    """Write a checkpoint as a folder that plain transformers loads."""

    command: ClassVar[str] = "export"
    positionals: ClassVar[dict[str, str]] = {"CHECKPOINT": "checkpoint", "DIR": "output"}
    common: ClassVar[tuple[str, ...]] = ("checkpoint", "output")
    examples: ClassVar[tuple[str, ...]] = ("models/vqa vqa-plain/",)
    notes: ClassVar[str] = """\
output files:
  DIR  config.json, model.safetensors, the tokenizer if the checkpoint has one, and README.md,
       which names the class to load and the inputs.

Standardization of region vectors becomes a part of the weights. A head that transformers does not
have is left out: DIR then has the encoder alone, and the command says so. Models of your own are
refused."""

    checkpoint: Annotated[str, Field(min_length=1)]
    """OUT of a training (its best checkpoint), or a checkpoint's folder."""

    output: Annotated[str, Field(min_length=1)]
    """New folder to write."""

    data: DataSection = DataSection()
