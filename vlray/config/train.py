"""Settings of ``vlray train``."""

from __future__ import annotations

from typing import ClassVar, Literal

from vlray.config.data import DataSection
from vlray.config.loader import ModelLoaderSection
from vlray.config.model import ModelSection
from vlray.config.training import (
    HoldoutSection,
    OptimSection,
    TrainingSection,
    WatchSection,
    WorkersSection,
)
from vlray.settings.base import Command, Splits

Objective = Literal["labels", "choices", "phrases", "matching", "pretraining"]


class TrainConfig(Command):
    """Train a vision-and-language model on regions: pre-training and fine-tuning."""

    command: ClassVar[str] = "train"
    positionals: ClassVar[dict[str, str]] = {
        "DATA": "corpus",
        "REGIONS": "regions",
        "OUT": "output",
    }
    aliases: ClassVar[dict[str, str]] = {"data": "corpus"}
    examples: ClassVar[tuple[str, ...]] = (
        "vqa:train,vqa:nominival regions/ models/vqa --valid vqa:minival"
        " --weights unc-nlp/lxmert-base-uncased",
        "nlvr2:train regions/ models/nlvr2 --valid nlvr2:dev --model.name visualbert",
        "coco-captions:train regions/ models/captions --objective pretraining --weights minilm",
        "vqa-rad:train regions/ models/rad --holdout 0.1 --config configs/train/rad-lxmert.yaml",
        "vqa:train regions/ models/vqa --workers 8 --precision bf16 --batch-size 256",
    )
    notes: ClassVar[str] = """\
what is written:
  OUT/best, OUT/last  the model with the best evaluation and the last one: folders for
                      transformers' from_pretrained and for vlray test; last also holds what a
                      resumed run needs. Run the same command again to go on after a crash or
                      Ctrl-C.
  runs/PROJECT/train-TIME  the log, settings, metrics.jsonl, curves.png, TensorBoard's files;
                      vlray logs --follow shows it live."""

    corpus: str = ""
    """What to train on: ``dataset:split``, several with commas between them, or the name of a
    corpus that ``vlray datasets corpus`` keeps."""

    regions: Splits = ()
    """Outputs of ``vlray extract`` or ``convert`` that have the images: one, or ``NAME=OUT`` for
    each NAME that the corpus gives."""

    output: str = ""
    """Folder or URI of the checkpoints. With several nodes it has to be one that all of them
    see. Empty: ``models/PROJECT/DATA``."""

    objective: Literal["auto", Objective] = "auto"
    """What is learned. ``labels``: answers or classes. ``choices``: the right one of some texts
    (VCR). ``phrases``: the regions of phrases (Flickr30k Entities). ``matching``: whether text and
    image belong together (retrieval). ``pretraining``: what was masked. ``auto``: what the dataset
    has labels for."""

    model: ModelSection = ModelSection()
    validation: HoldoutSection = HoldoutSection()
    training: TrainingSection = TrainingSection()
    optim: OptimSection = OptimSection()
    loader: ModelLoaderSection = ModelLoaderSection()
    data: DataSection = DataSection()
    watch: WatchSection = WatchSection()
    cluster: WorkersSection = WorkersSection()
