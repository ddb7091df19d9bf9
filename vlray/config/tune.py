"""Settings of ``vlray tune``."""

from __future__ import annotations

import sys
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from vlray.config.base import Command, Splits
from vlray.config.cluster import ClusterSection


class TuneConfig(Command):
    """Search the options of an extraction, or of a training, for the best ones."""

    command: ClassVar[str] = "tune"
    positionals: ClassVar[dict[str, str]] = {"OUT": "output"}
    examples: ClassVar[tuple[str, ...]] = (
        "sweep/ --truth instances_val2017.json --objective ar@36"
        " --space nms_thresh=0.3..0.9/10 --space score_thresh=0.05,0.1,0.2 -- extract val2017/",
    )

    output: str = ""
    """Folder of the sweep: proposals, trials, tables, plots and the best settings."""

    tuned: Splits = ()
    """The command whose options are searched, and its own arguments: what stands after ``--``."""

    space: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """What is searched: options of the command, and their values. ``0.1,0.2,0.5``: these;
    ``0.3..0.9/7``: seven of even distance; ``0.3..0.9``: any between, for random and optuna."""

    objective: str = ""
    """The figure to be best."""

    truth: str = ""
    """Boxes, classes and attributes that are right: COCO's JSON of the images."""

    search: Literal["grid", "random", "optuna"] = "grid"
    """How settings are chosen."""

    trials: Annotated[int, Field(ge=0)] = 0
    """Settings that are tried. 0: all of a grid."""

    cluster: ClusterSection = ClusterSection()

    @classmethod
    def from_cli(cls, argv: list[str] | None = None) -> Self:
        """Read all layers of settings; what stands after ``--`` is for the tuned command."""
        args = sys.argv[1:] if argv is None else argv
        if "--" not in args:
            return super().from_cli(args)
        at = args.index("--")
        config = super().from_cli(args[:at])
        return config.model_copy(update={"tuned": tuple(args[at + 1 :])})
