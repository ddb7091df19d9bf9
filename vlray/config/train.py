"""Settings of ``vlray train``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

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
from vlray.settings.section import CODE

Objective = Literal["labels", "choices", "phrases", "matching", "pretraining"]


class TrainConfig(Command):
    """Train a vision-and-language model on regions: pretraining and fine-tuning."""

    command: ClassVar[str] = "train"
    positionals: ClassVar[dict[str, str]] = {
        "DATA": "corpus",
        "REGIONS": "regions",
        "OUT": "output",
    }
    # ``data`` itself is taken: it is the section with the folders of the datasets.
    aliases: ClassVar[dict[str, str]] = {"data": "corpus"}
    common: ClassVar[tuple[str, ...]] = (
        "model.name",
        "model.weights",
        "validation.valid",
        "validation.holdout",
        "training.epochs",
        "training.batch_size",
        "training.precision",
        "optim.lr",
        "cluster.workers",
        "config",
    )
    examples: ClassVar[tuple[str, ...]] = (
        "vqa:train,vqa:nominival regions/ models/vqa --valid vqa:minival"
        " --weights unc-nlp/lxmert-base-uncased",
        "nlvr2:train regions/ models/nlvr2 --valid nlvr2:dev --model.name visualbert",
        "coco-captions:train regions/ models/captions --objective pretraining --weights minilm",
        "vqa-rad:train regions/ models/rad --holdout 0.1 --config configs/train/rad-lxmert.yaml",
        "vqa:train regions/ models/vqa --workers 8 --precision bf16 --batch-size 256",
    )
    notes: ClassVar[str] = """\
output files:
  OUT/best, OUT/last  the best and the last model: folders for transformers' from_pretrained
                      and for vlray test. OUT/last also has the state of the optimizer: run the
                      same command again to resume after a crash or Ctrl-C.
  runs/PROJECT/train-TIME  log, settings, metrics.jsonl, curves.png, TensorBoard files;
                      vlray logs --follow shows the log live."""

    corpus: str = ""
    """Training data: ``dataset:split``, several separated by commas, or the name of a corpus that
    was saved with ``vlray datasets corpus``."""

    regions: Splits = ()
    """Outputs of ``vlray extract`` or ``convert`` with the images: one path, or ``NAME=OUT`` for
    each NAME in the corpus, several separated by commas or by a repeated ``--regions``."""

    output: str = ""
    """Folder or URI for the checkpoints. With several nodes, all of them must have access. Empty:
    ``models/PROJECT/DATA``."""

    objective: Literal["auto", Objective] = "auto"
    """Learning objective. ``labels``: answers or classes. ``choices``: the right one of several
    texts (VCR). ``phrases``: the regions of phrases (Flickr30k Entities). ``matching``: whether
    text and image belong together (retrieval). ``pretraining``: masked tokens and regions.
    ``auto``: according to the labels of the dataset."""

    hooks: Annotated[Splits, CODE] = ()
    """Extensions of the training loop: ``save-on-signal`` (a checkpoint on SIGUSR1), ``trackio``
    (metrics for Trackio), or your own classes: ``module:Class`` or ``path/to/file.py:Class``
    (protocol in ``vlray/engine/hooks/protocol.py``)."""

    model: ModelSection = ModelSection()
    validation: HoldoutSection = HoldoutSection()
    training: TrainingSection = TrainingSection()
    optim: OptimSection = OptimSection()
    loader: ModelLoaderSection = ModelLoaderSection()
    data: DataSection = DataSection()
    watch: WatchSection = WatchSection()
    cluster: WorkersSection = WorkersSection()
