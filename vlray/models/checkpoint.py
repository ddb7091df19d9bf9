"""Description of a checkpoint: the file ``vlray.json``, next to the model's own files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from vlray.config.loader import LoaderSection
from vlray.config.model import ModelSection
from vlray.loader.word_pieces import TOKENIZER
from vlray.models.protocol import Goal
from vlray.regions.schema import Provenance

FILE = "vlray.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """Everything needed to rebuild a model and to prepare its inputs as in training."""

    vlray_version: str
    model: ModelSection
    goal: Goal
    loader: LoaderSection
    """Resolved loader options for evaluation; nothing is masked, except in pretraining. The
    tokenizer ``tokenizer.json`` is the file of the checkpoint; `read` returns its path."""

    corpus: str
    """Training corpus, as written on the command line."""

    regions: dict[str, str]
    """Paths of the region outputs during training, keyed by name."""

    provenance: dict[str, Provenance]
    """Provenance of the region outputs, keyed by name; see
    `vlray.regions.provenance.provenance_of`."""

    step: int = 0
    epoch: float = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Evaluation metrics at this step; empty if the model was not evaluated."""

    most_frequent: str = ""
    """Most frequent label in the training data; empty if unknown or if there are no labels."""

    def write(self, folder: Path) -> None:
        """Write ``vlray.json`` into a folder."""
        # asdict does not convert pydantic models, so they are dumped separately.
        values = asdict(self) | {
            "model": self.model.model_dump(mode="json"),
            "loader": self.loader.model_dump(mode="json"),
        }
        (folder / FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``vlray.json`` from a checkpoint folder.

        Raises:
            FileNotFoundError: The folder does not contain the file.
            ValueError: The file does not describe a checkpoint.
        """
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} is not a checkpoint of vlray train: it has no {FILE}; pass the OUT of a "
                "training, or its best or last folder"
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            # vlray extract also writes a vlray.json, with other content.
            if "goal" not in values:
                raise ValueError(
                    "it has no goal; outputs of vlray extract also contain a file of this name"
                )
            goal = values.pop("goal")
            loader = LoaderSection.model_validate(values.pop("loader"))
            # The file may have been moved with its folder since the training.
            if loader.tokenizer == TOKENIZER:
                loader = loader.model_copy(update={"tokenizer": str(folder / TOKENIZER)})
            return cls(
                model=ModelSection.model_validate(values.pop("model")),
                # JSON turns tuples into lists, and goals are compared with ==.
                goal=Goal(
                    **goal
                    | {
                        "labels": tuple(goal["labels"]),
                        "auxiliary": tuple(goal.get("auxiliary", ())),
                    }
                ),
                loader=loader,
                **values,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} does not describe a checkpoint: {error}") from error
