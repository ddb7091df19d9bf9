"""What a checkpoint says about itself: ``vlray.json`` beside the model's own files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from vlray.config.loader import LoaderSection
from vlray.config.model import ModelSection
from vlray.models.protocol import Goal

FILE = "vlray.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """All that is needed to build the model again and to feed it as in training."""

    vlray_version: str
    model: ModelSection
    goal: Goal
    loader: LoaderSection
    """As it was settled for evaluation: nothing is masked but in pretraining."""

    corpus: str
    """What it was trained on, as on the command line."""

    regions: dict[str, str]
    """The outputs that it was trained on, by name: their places then."""

    provenance: dict[str, dict[str, Any]]
    """Of these outputs, as `vlray.regions.provenance.provenance_of` gives it."""

    step: int = 0
    epoch: float = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the evaluation when it was saved; empty: there was none."""

    most_frequent: str = ""
    """The label that most examples of the training have; empty: not known, or there are none."""

    def write(self, folder: Path) -> None:
        """Write ``vlray.json``."""
        values = asdict(self) | {
            "model": self.model.model_dump(mode="json"),
            "loader": self.loader.model_dump(mode="json"),
        }
        (folder / FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``vlray.json``.

        Raises:
            FileNotFoundError: The folder has none.
            ValueError: It says something else.
        """
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} is no checkpoint of vlray train: it has no {FILE}; give the OUT of a "
                "training, or its best or last folder"
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if "goal" not in values:
                raise ValueError("it has no goal; an output of vlray extract has such a file, too")
            goal = values.pop("goal")
            return cls(
                model=ModelSection.model_validate(values.pop("model")),
                goal=Goal(**goal | {"labels": tuple(goal["labels"])}),
                loader=LoaderSection.model_validate(values.pop("loader")),
                **values,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not describe a checkpoint: {error}") from error
