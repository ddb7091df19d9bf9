"""Settings of ``vlray pipeline``."""

from __future__ import annotations

from typing import Any, ClassVar

from vlray.settings.base import Command, Paths, Splits


class PipelineConfig(Command):
    """Run the steps of a file, each a command of vlray; what is done is not done again."""

    command: ClassVar[str] = "pipeline"
    positionals: ClassVar[dict[str, str]] = {"FILE": "config"}
    examples: ClassVar[tuple[str, ...]] = (
        "story.yaml --dry-run",
        "story.yaml",
        "configs/pipeline/vqa-rad.yaml --values data=/data/vqa_rad",
        "story.yaml --steps model.training.steps=20 --output short",
        "story.yaml --only regions,model",
        "story.yaml --redo model",
    )
    notes: ClassVar[str] = """\
the file:
  project: rad
  values: {photos: /data/photos}
  steps:
    regions: {command: extract, images: {root: $photos}}
    model:
      command: train
      config: configs/train/rad-visualbert.yaml
      corpus: vqa-rad:train
      regions: $regions
    scores: {command: test, checkpoint: $model, corpus: vqa-rad:test}

  A step has its command, and that command's settings as a --config file has them; config names
  files to start from. $NAME is the output of an earlier step, or one of values. A step that names
  no output of its own writes to OUTPUT/STEP.

what is not done again:
  A step that has finished, while its settings, what it reads and vlray's version stay the same. Of
  the files and folders that settings name (and of earlier outputs), names, sizes and times are
  compared, not contents; lists of datasets and corpora kept by name are not looked into. A step
  that failed or was stopped is run again: extract, train, tune and convert go on from what is
  there. Where what is read has changed, extract goes on with what is new; a training is done anew,
  and what the old one wrote is set aside.

what is written into OUTPUT:
  index.html          what came out of every step, with figures and curves
  state.json          what was done, on what
  settings/STEP.yaml  the settings of each step, for --config of its command"""

    config: Paths = ()
    """YAML of named steps; of several, a later one changes what an earlier one says."""

    output: str = ""
    """Local folder for the pipeline's state, its page and what steps write that name no output of
    their own. Empty: ``pipelines/NAME``, after the file."""

    values: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """What ``$NAME`` stands for in the steps' settings: ``data=/data/vqa_rad``."""

    shared: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Settings of every step whose command has them, such as ``data``."""

    steps: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """The steps by their names, in their order. As a flag: ``model.training.steps=20``."""

    only: Splits = ()
    """Run these steps at most."""

    redo: Splits = ()
    """Run these steps though they are done, from the beginning: what an extract, train, tune or
    convert wrote is set aside first, under another name."""

    dry_run: bool = False
    """Print the plan, and run nothing."""
