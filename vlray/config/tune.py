"""Settings of ``vlray tune``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from vlray.config.cluster import Gpus
from vlray.settings.base import Command, Splits
from vlray.settings.options import flatten
from vlray.settings.section import CODE, Section


def _as_text(values: object) -> object:
    """Convert the values of each option to text: YAML may have numbers, lists or nested keys."""
    if not isinstance(values, Mapping):
        return values
    return {
        # JSON is also YAML, which the parser of search spaces reads.
        ".".join(path): value if isinstance(value, str) else json.dumps(value)
        for path, value in flatten(values).items()
    }


class TrialsSection(Section):
    """The cluster on which trials run, and their resources."""

    address: str = ""
    """Address of a running Ray cluster; ``local`` starts one on this machine. Empty: use a running
    cluster if there is one, otherwise ``local``."""

    concurrent: Annotated[int, Field(ge=0)] = 0
    """Number of trials that run at the same time. 0: as many as fit on the cluster."""

    cpus_per_trial: Annotated[float, Field(gt=0)] = 1
    """CPUs of each trial."""

    gpus_per_trial: Gpus = -1
    """GPUs of each trial that trains; a fraction shares a GPU. -1: 1 if the cluster has GPUs,
    otherwise 0. With ``--workers`` after ``--``, each worker of Ray Train gets its own GPU."""

    object_store_gb: Annotated[float, Field(ge=0)] = 0
    """Object store (shared memory) of a local cluster, in GB. 0: Ray's default."""

    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """Progress display. ``auto``: a bar on a terminal, and plain lines elsewhere."""


class TuneConfig(Command):
    """Search for the best options of an extraction or a training."""

    command: ClassVar[str] = "tune"
    positionals: ClassVar[dict[str, str]] = {"OUT": "output"}
    common: ClassVar[tuple[str, ...]] = (
        "space",
        "objective",
        "mode",
        "truth",
        "downstream",
        "search",
        "trials",
        "seed",
        "scheduler",
        "cluster.concurrent",
    )
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
search space: --space OPTION=VALUES ..., options of the command after --
  0.1,0.2,0.5         a list of values
  0.3..0.9/7          seven evenly spaced values; 1e-5..1e-3/7/log: on a logarithmic scale
  0.3..0.9            any value in the range (random, optuna); 1e-5..1e-3/log: log-uniform
  [[0.9, 0.98], ...]  values that contain commas, as a YAML list

objectives of -- extract:
  ar@10 ar@36 ar@100  recall of the first k regions of each image at IoU 0.5; ar@36:0.5:0.95: mean
                      over IoU 0.5, 0.55, ... 0.95. Needs --truth.
  recall              recall of all regions; recall:0.5:0.95: mean as above. Needs --truth.
  boxes               mean number of regions per image (lower is better)
  label_accuracy attribute_accuracy
                      accuracy of the detector's labels on the true boxes. Needs --truth.
  images_per_s        speed of the detector, in images per second
  downstream          best evaluation of a training on the selected regions. Needs --downstream.
objectives of -- train: any metric of its evaluations, by name. Default: the first one.

For extract, the detector runs once per image; score_thresh, nms_thresh, min_boxes and max_boxes
only change which of its proposals are selected. Any other option needs proposals of its own.

outputs:
  OUT/best.yaml       the best values of the searched options (the others as comments), for
                      vlray extract IMAGES REGIONS --config OUT/best.yaml (or vlray train)
  OUT/trials.parquet  all trials with their options and metrics, the best first
  OUT/*.png           plots of the objective against each option, and of recall against boxes
  OUT/trials.jsonl    the finished trials. Run the same command again to resume after a crash or
                      Ctrl-C; with a higher --trials it continues the search."""

    output: str = ""
    """Folder of the sweep: proposals, trials, tables, plots and the best settings. On several
    nodes it must be a shared folder."""

    tuned: Annotated[Splits, CODE] = ()
    """The command whose options are searched, and its arguments without OUT, given after ``--``."""

    space: Annotated[dict[str, str], BeforeValidator(_as_text), CODE] = {}  # noqa: RUF012 - pydantic copies it
    """Search space: options of the command and their values. One flag takes several options."""

    objective: str = ""
    """Metric to optimize."""

    mode: Literal["auto", "max", "min"] = "auto"
    """Whether to maximize or minimize the objective. ``auto``: minimize losses and ``boxes``,
    maximize everything else."""

    truth: str = ""
    """Ground truth: boxes, classes and attributes of the images, as COCO's JSON."""

    downstream: str = ""
    """YAML file with settings of ``vlray train``, without regions and output. For the objective
    ``downstream``, each selection is used to train with them; the result is the metric of the best
    evaluation."""

    search: Literal["grid", "random", "optuna"] = "grid"
    """How settings are chosen. ``grid``: all combinations. ``random``: random settings.
    ``optuna``: settings similar to the best ones so far (TPE)."""

    trials: Annotated[int, Field(ge=0)] = 0
    """Number of settings that ``random`` and ``optuna`` try."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of ``random`` and ``optuna``."""

    scheduler: Literal["none", "asha"] = "none"
    """Early stopping. ``asha`` stops a training whose evaluations are in the worse two thirds of
    all trainings after the same number of evaluations."""

    cluster: TrialsSection = TrialsSection()

    @classmethod
    def rewrite_args(cls, args: list[str]) -> tuple[list[str], dict[str, object]]:
        """Split off the tuned command after ``--``, and merge the ``--space`` flags."""
        if "--" not in args:
            return _gather_space(args), {}
        at = args.index("--")
        return _gather_space(args[:at]), {"tuned": tuple(args[at + 1 :])}


def _gather_space(args: list[str]) -> list[str]:
    """Merge all ``--space OPTION=VALUES ...`` into one flag with a JSON value.

    As plain flags, they would be split at the commas in their values.

    Raises:
        ValueError: An entry after ``--space`` is not OPTION=VALUES.
    """
    others: list[str] = []
    space: dict[str, str] = {}
    index = 0
    while index < len(args):
        flag, equals, value = args[index].partition("=")
        index += 1
        if flag != "--space":
            others.append(args[index - 1])
            continue
        entries = [value] if equals else []
        # The entries of a flag end at the next flag, or at a positional argument.
        while index < len(args) and "=" in args[index] and not args[index].startswith("-"):
            entries.append(args[index])
            index += 1
        if not entries:
            raise ValueError("--space needs OPTION=VALUES, such as nms_thresh=0.3..0.9/7")
        for entry in entries:
            name, equals, values = entry.partition("=")
            if not equals or not name or not values:
                raise ValueError(
                    f"--space {entry}: write OPTION=VALUES, such as nms_thresh=0.3,0.5"
                )
            if name in space:
                raise ValueError(f"--space {name} is set twice; list all values in one entry")
            space[name] = values
    return [*others, "--space", json.dumps(space)] if space else others
