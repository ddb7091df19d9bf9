"""A search among extractions: what it is for, what it needs, what is done once for all trials."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from vlray.config.extract import ExtractConfig
from vlray.config.train import TrainConfig
from vlray.config.tune import TuneConfig
from vlray.detect.load import check_modes
from vlray.settings.reader import read
from vlray.storage import files
from vlray.tasks.image_sets import absolute, find_images, found
from vlray.tuning import space as spaces
from vlray.tuning.capacity import for_selections, for_trainings
from vlray.tuning.objective import DOWNSTREAM, LABELS, RATE, Objective, check_name, make_objective
from vlray.tuning.selecting import (
    Collected,
    Downstream,
    Selections,
    collect_kinds,
    heavy_of,
    is_light,
)
from vlray.tuning.truth import Truth, read_truth
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Resources, Work

OF_TRUTH = tuple(
    f"{name}{ious}" for name in ("ar@10", "ar@36", "ar@100", "recall") for ious in ("", ":0.5:0.95")
)
NEED_TRUTH = (*OF_TRUTH, *LABELS)
NAMES = (*NEED_TRUTH, "boxes", RATE, DOWNSTREAM)


class ExtractSweep:
    """A search among selections, and among detections where other options are searched.

    Attributes:
        objective: The figure that was asked for.
        about: The truth by its content, and the training downstream.
    """

    def __init__(self, config: TuneConfig, tuned: Tuned, space: spaces.Space, folder: Path) -> None:
        """Check all that can be checked before a detector is loaded.

        Raises:
            ValueError: The objective is unknown, or something is missing or too much for it.
            OSError: Images or truth cannot be read.
        """
        self._config, self._tuned, self._space, self._folder = config, tuned, space, folder
        base = cast(ExtractConfig, tuned.config({}, "-"))
        if base.detector.features == "grid" or base.boxes:
            raise ValueError(
                "features=grid selects nothing, and so do boxes that are given; leave them away"
            )
        self._check_objective()
        self.objective = make_objective(config.objective, config.mode)
        self._find_images(base)
        self._truth = self._read_truth(base) if config.truth else None
        self._downstream = self._read_downstream() if config.downstream else None
        for kind in self._kinds(()) if self._is_finite() else [{}]:
            self._check_kind(kind)

    @property
    def about(self) -> Mapping[str, Any]:
        """Say what the sweep is measured on."""
        about: dict[str, Any] = {}
        if self._config.truth:
            place = found(self._config.truth, self._config.env.data_dir)
            data = files.read_bytes(*files.resolve(place))
            about["truth_sha256"] = hashlib.sha256(data).hexdigest()
        if self._downstream:
            about["downstream"] = self._downstream.model_dump(
                mode="json", exclude_unset=True, exclude={"config", "output", "regions", "env"}
            )
        return about

    def why_not(self, setting: Setting) -> str:
        """Say what the command's settings have against it."""
        try:
            self._tuned.config(setting, "-")
        except ValueError as error:
            return str(error)
        return ""

    def resources(self) -> Resources:
        """Give what a selection takes, or the training on it."""
        if self._downstream:
            return for_trainings(self._config.cluster, self._downstream.cluster)
        return for_selections(self._config.cluster)

    def prepare(self, settings: tuple[Setting, ...]) -> Work:
        """Collect the proposals, and put them where all trials see them."""
        import ray

        kinds = self._kinds(settings) if settings else [{}, *self._kinds(())]
        place = self._folder / "proposals"
        collected = collect_kinds(self._tuned, kinds, place, with_feats=bool(self._downstream))
        downstream = None
        if self._downstream:
            figure = self.objective.name.partition("/")[2]
            by = Objective(figure, self.objective.mode)
            downstream = Downstream(self._downstream, by, self._folder / "trials")
        return Selections(
            tuned=self._tuned,
            candidates={name: ray.put(one.candidates) for name, one in collected.items()},
            constants={name: self._constants(one) for name, one in collected.items()},
            truth=self._truth and ray.put(self._truth),
            downstream=downstream,
            cwd=Path.cwd(),
        )

    def _constants(self, one: Collected) -> dict[str, float]:
        """Measure what no selection changes."""
        measured = {} if math.isnan(one.rate) else {RATE: one.rate}
        if self._truth and self.objective.name in LABELS:
            from vlray.tuning.figures import label_figures

            measured |= label_figures(one.config, self._truth, self._folder / "labels")
        return measured

    def _check_objective(self) -> None:
        config, name = self._config, self._config.objective
        if not name:
            raise ValueError(f"no objective is given; choose one: {', '.join(NAMES)}")
        is_downstream = name.partition("/")[0] == DOWNSTREAM
        if not is_downstream:
            check_name(name, NAMES, f", and {DOWNSTREAM}/FIGURE of that training")
        if config.scheduler != "none":
            raise ValueError("a selection has no evaluations, so that --scheduler is for -- train")
        if name in NEED_TRUTH and not config.truth:
            raise ValueError(
                f"the objective {name} wants the boxes that are right: --truth FILE, such as "
                "COCO's instances_val2017.json"
            )
        if is_downstream != bool(config.downstream):
            raise ValueError(
                f"the objective {DOWNSTREAM} and --downstream FILE.yaml (settings of vlray train) "
                "belong together; give both or none"
            )
        if name in (RATE, *LABELS) and all(map(is_light, self._space)):
            raise ValueError(
                f"{name} is the same whatever is selected, but {', '.join(self._space)} only "
                "select; search an option of the detector, such as min_size or name"
            )

    def _is_finite(self) -> bool:
        heavy = {name: self._space[name] for name in self._space if not is_light(name)}
        return all(isinstance(domain, spaces.Choices) for domain in heavy.values())

    def _kinds(self, settings: Iterable[Setting]) -> list[Setting]:
        """Give what has to be collected; without settings, whatever the space may ask for."""
        if settings := tuple(settings):
            return [heavy_of(setting) for setting in settings]
        heavy = {name: self._space[name] for name in self._space if not is_light(name)}
        if self._config.search == "optuna" and not self._is_finite():
            names = ", ".join(n for n, domain in heavy.items() if isinstance(domain, spaces.Range))
            raise ValueError(
                f"each value of {names} wants its own proposals, so that optuna chooses among "
                "values that are given: --space min_size=300..600/4"
            )
        return list(spaces.grid(heavy)) if heavy else [{}]

    def _check_kind(self, kind: Setting) -> None:
        if not self.why_not(kind):
            config = cast(ExtractConfig, self._tuned.config(kind, "-"))
            check_modes(config.detector, boxes_given=False)

    def _find_images(self, base: ExtractConfig) -> None:
        """Look whether the images are there, and their storage opens to us."""
        images = find_images(base.images, base.data, base.env.data_dir)
        fs, place = files.resolve(images.root)
        with files.explained(images.root):
            if fs.get_file_info(place).type.name == "NotFound":
                raise FileNotFoundError(f"there is no {images.root}; give the images behind --")

    def _read_truth(self, base: ExtractConfig) -> Truth:
        place = absolute(found(self._config.truth, self._config.env.data_dir))
        truth = read_truth(place, base.images.id_rule or "stem")
        self._check_labels(truth)
        return truth

    def _check_labels(self, truth: Truth) -> None:
        wanted = {"label_accuracy": truth.classes, "attribute_accuracy": truth.attributes}
        name = self.objective.name
        if name in wanted and not wanted[name]:
            what = name.partition("_")[0].replace("label", "classes").replace("bute", "butes")
            raise ValueError(
                f"{self._config.truth} says no {what} of its boxes, which the objective {name} "
                "wants; give a file that does, or another objective"
            )

    def _read_downstream(self) -> TrainConfig:
        from vlray.tuning.training import check_validation, is_scored

        given = ["--config", self._config.downstream, "--regions", "-", "--output", "-"]
        config = read(TrainConfig, given)
        check_validation(config, f"in {self._config.downstream}")
        if not is_scored(config) and self.objective.name == DOWNSTREAM:
            raise ValueError(
                "that training's evaluations have losses and no score; say by which figure it is "
                f"judged: --objective {DOWNSTREAM}/loss"
            )
        return config
