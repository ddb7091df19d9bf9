"""Settings of ``vlray tune``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from vlray.settings.base import Command, Splits
from vlray.settings.options import flatten
from vlray.settings.section import Section


def _as_text(values: Any) -> Any:
    """Bring the values of each option into one text: YAML may give numbers and lists, or nest."""
    if not isinstance(values, Mapping):
        return values
    return {
        ".".join(path): value if isinstance(value, str) else json.dumps(value)
        for path, value in flatten(values).items()
    }


class TrialsSection(Section):
    """Where trials run, and how many at the same time."""

    address: str = ""
    """Of a running Ray cluster; ``local`` starts one here. Empty: a running cluster where there is
    one, else local."""

    concurrent: Annotated[int, Field(ge=0)] = 0
    """Trials at the same time. 0: as many as fit."""

    cpus_per_trial: Annotated[float, Field(gt=0)] = 1
    """CPUs of each."""

    gpus_per_trial: Annotated[float, Field(ge=-1)] = -1
    """GPUs of each that trains; a fraction shares one. -1: 1 where the cluster has GPUs, else 0.
    With ``--workers`` behind ``--``, each worker of Ray Train has its own."""

    object_store_gb: Annotated[float, Field(ge=0)] = 0
    """Shared memory of a local cluster, GB. 0: as Ray chooses."""

    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """``auto`` is a bar on a terminal and plain lines elsewhere."""


class TuneConfig(Command):
    """Search the options of an extraction, or of a training, for the best ones."""

    command: ClassVar[str] = "tune"
    positionals: ClassVar[dict[str, str]] = {"OUT": "output"}
    examples: ClassVar[tuple[str, ...]] = (
        "sweep/ --objective ar@36 --truth instances_val2017.json --space nms_thresh=0.3..0.9/7"
        " score_thresh=0.05,0.1,0.2 -- extract val2017/ --id-rule coco --min-boxes 10",
        "sweep/ --objective ar@36 --truth instances_val2017.json --space nms_thresh=0.3..0.9"
        " min_size=300..600/4 --search optuna --trials 100 -- extract val2017/ --id-rule coco",
        "sweep/ --objective downstream --downstream train.yaml --space max_boxes=10,36,100"
        " -- extract photos/",
        "sweep/ --space lr=1e-5..1e-3/log --search random --trials 20 --scheduler asha"
        " -- train vqa-rad:train regions/ --holdout 0.2",
        "sweep/ --config configs/tune/thresholds.yaml --truth instances_val2017.json"
        " -- extract val2017/ --id-rule coco",
    )
    notes: ClassVar[str] = """\
what is searched: --space OPTION=VALUES ..., options of the command behind --
  0.1,0.2,0.5         these values
  0.3..0.9/7          seven of even distance; 1e-5..1e-3/7/log: of even ratio
  0.3..0.9            any between them (random, optuna); 1e-5..1e-3/log: by their logarithm
  [[0.9, 0.98], ...]  values that have commas themselves, as a YAML list

objectives, behind -- extract:
  ar@10 ar@36 ar@100  recall of the first k regions of an image at IoU 0.5; ar@36:0.5:0.95: mean
                      over IoU 0.5, 0.55, ... 0.95. With --truth.
  recall              of all regions, whatever their number; recall:0.5:0.95. With --truth.
  boxes               regions of an image (the fewest are the best)
  label_accuracy attribute_accuracy
                      of what the detector says of the truth's own boxes. With --truth.
  images_per_s        images that the detector does in a second
  downstream          what a training on the selected regions reaches: --downstream FILE.yaml
objectives, behind -- train: a figure of its evaluations, by name. None given: their first.

For extract the detector runs once over each image; score_thresh, nms_thresh, min_boxes and
max_boxes only select again from its proposals. Every other option wants proposals of its own.

what is written:
  OUT/best.yaml       what was given and the best of what was searched, for
                      vlray extract IMAGES REGIONS --config OUT/best.yaml (or vlray train)
  OUT/trials.parquet  every trial with its options and figures; the best first
  OUT/*.png           the objective against each option; recall against the number of boxes
  OUT/trials.jsonl    what the same command goes on from after a crash or Ctrl-C; with more
                      --trials it searches on"""

    output: str = ""
    """Folder of the sweep: proposals, trials, tables, plots and the best settings. With several
    nodes it has to be one that all of them see."""

    tuned: Splits = ()
    """The command whose options are searched, and its own arguments: what stands behind ``--``,
    without its OUT."""

    space: Annotated[dict[str, str], BeforeValidator(_as_text)] = {}  # noqa: RUF012 - pydantic copies it
    """What is searched: options of the command, and their values; several behind one flag."""

    objective: str = ""
    """The figure to be best."""

    mode: Literal["auto", "max", "min"] = "auto"
    """Whether the largest or the smallest is the best. ``auto``: the smallest of ``boxes`` and of
    losses, the largest of everything else."""

    truth: str = ""
    """Boxes, classes and attributes that are right: COCO's JSON of the images."""

    downstream: str = ""
    """YAML file of ``vlray train``'s settings, without regions and output: for the objective
    ``downstream``, each selection is trained on by them, and the figure of its best evaluation is
    taken."""

    search: Literal["grid", "random", "optuna"] = "grid"
    """How settings are chosen. ``grid``: all of them. ``random``: drawn. ``optuna``: near those
    that were good (TPE)."""

    trials: Annotated[int, Field(ge=0)] = 0
    """Settings that ``random`` and ``optuna`` try."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of what they draw."""

    scheduler: Literal["none", "asha"] = "none"
    """``asha`` ends a training early whose evaluations are among the worse two thirds of those
    after as many of them."""

    cluster: TrialsSection = TrialsSection()

    @classmethod
    def rewrite_args(cls, args: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Split off the tuned command, which follows ``--``, and join the ``--space`` flags."""
        if "--" not in args:
            return _gather_space(args), {}
        at = args.index("--")
        return _gather_space(args[:at]), {"tuned": tuple(args[at + 1 :])}


def _gather_space(args: list[str]) -> list[str]:
    """Make one JSON of all ``--space OPTION=VALUES ...``: as flags, commas would part entries.

    Raises:
        ValueError: Something behind ``--space`` is not of that form.
    """
    kept: list[str] = []
    space: dict[str, str] = {}
    place = 0
    while place < len(args):
        flag, equals, value = args[place].partition("=")
        place += 1
        if flag != "--space":
            kept.append(args[place - 1])
            continue
        entries = [value] if equals else []
        while place < len(args) and "=" in args[place] and not args[place].startswith("-"):
            entries.append(args[place])
            place += 1
        if not entries:
            raise ValueError("--space wants OPTION=VALUES, such as nms_thresh=0.3..0.9/7")
        for entry in entries:
            name, is_given, values = entry.partition("=")
            if not is_given or not name or not values:
                raise ValueError(f"--space {entry}: give OPTION=VALUES, such as nms_thresh=0.3,0.5")
            if name in space:
                raise ValueError(f"--space {name} is given twice; give all its values at once")
            space[name] = values
    return [*kept, "--space", json.dumps(space)] if space else kept
