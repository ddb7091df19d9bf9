"""Options of ``vlray pipeline``."""

from __future__ import annotations

from typing import Any, ClassVar

from vlray.settings.base import Command, Paths, Splits


class PipelineConfig(Command):
    """Run the steps of a YAML file, each a vlray command. Finished steps are skipped."""

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
      config: configs/train/rad-lxmert.yaml
      corpus: vqa-rad:train
      regions: $regions
    scores: {command: test, checkpoint: $model, corpus: vqa-rad:test}

  A step has a command and the settings of that command, as in its --config file; the key config
  names YAML files to start from. $NAME stands for the output of an earlier step or for an entry of
  values. A step without an output option writes to OUTPUT/STEP.

skipped steps:
  A finished step is skipped as long as its settings, its inputs and the version of vlray stay the
  same. Inputs are the files and folders that settings name, and the outputs of earlier steps.
  vlray compares their names, sizes and modification times, not their contents. Saved dataset
  lists and corpora are not compared. A step that failed or was stopped runs again: extract,
  train, tune and convert resume from their output. If its inputs have changed, extract processes
  only what is new; train, tune and convert start over, and the old output is renamed.

files in OUTPUT:
  index.html          results of all steps, with metrics and curves
  state.json          record of each step: settings, inputs, state
  settings/STEP.yaml  settings of each step, for --config of its command"""

    # Declared again for its help: here these files are the positional argument.
    config: Paths = ()
    """YAML files with named steps. Later files override earlier ones."""

    output: str = ""
    """Local folder for the state and page of the pipeline, and for steps without an output of their
    own. Empty: ``pipelines/NAME``, named after the file."""

    values: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Values of ``$NAME`` in the settings of steps, such as ``data=/data/vqa_rad``."""

    shared: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Settings for every step whose command has them, such as ``data``."""

    steps: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """The steps by name, in order. As a flag: ``model.training.steps=20``."""

    only: Splits = ()
    """Run only these steps, if they are not done."""

    redo: Splits = ()
    """Run these steps again from the beginning, even if they are done. The old output of extract,
    train, tune or convert is renamed first."""

    dry_run: bool = False
    """Print the plan without running anything."""
