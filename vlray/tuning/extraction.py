"""Search over the options of ``vlray extract``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from vlray.config.extract import ExtractConfig
from vlray.config.train import TrainConfig
from vlray.config.tune import TuneConfig
from vlray.detect.load import check_modes
from vlray.settings.json_value import JsonObject, JsonValue
from vlray.settings.reader import read
from vlray.storage import files
from vlray.tasks.image_sets import absolute, find_images, resolve_path
from vlray.tuning import space as spaces
from vlray.tuning.capacity import for_selections, for_trainings
from vlray.tuning.objective import DOWNSTREAM, LABELS, RATE, Objective, check_name, make_objective
from vlray.tuning.selecting import (
    Collected,
    Downstream,
    SelectionTrials,
    collect_kinds,
    heavy_of,
    is_light,
)
from vlray.tuning.truth import Truth, read_truth
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Resources, TrialFunction

RECALLS = tuple(
    f"{name}{ious}" for name in ("ar@10", "ar@36", "ar@100", "recall") for ious in ("", ":0.5:0.95")
)
NEED_TRUTH = (*RECALLS, *LABELS)
NAMES = (*NEED_TRUTH, "boxes", RATE, DOWNSTREAM)


class ExtractSweep:
    """Search over selection thresholds and over the detector's own options.

    Attributes:
        objective: The metric to optimize.
    """

    def __init__(self, config: TuneConfig, tuned: Tuned, space: spaces.Space, folder: Path) -> None:
        """Check the options and the data as far as possible without loading a detector.

        Raises:
            ValueError: The objective is unknown, or an option that it needs is missing.
            OSError: The images or the ground truth cannot be read.
        """
        self._config, self._tuned, self._space, self._folder = config, tuned, space, folder
        base = cast(ExtractConfig, tuned.config({}, "-"))
        if base.detector.features == "grid" or base.boxes:
            raise ValueError(
                "features=grid and boxes turn off the selection of regions, so there are no "
                "thresholds to search; remove the option"
            )
        self._check_objective()
        self.objective = make_objective(config.objective, config.mode)
        self._find_images(base)
        self._truth = self._read_truth(base) if config.truth else None
        self._downstream = self._read_downstream() if config.downstream else None
        # A range has too many kinds to check here; collect() checks those of random settings.
        for kind in self._kinds(()) if self._is_finite() else [{}]:
            self._check_kind(kind)

    @property
    def about(self) -> Mapping[str, JsonValue]:
        """Hash of the ground truth, and settings of the downstream training."""
        about: JsonObject = {}
        if self._config.truth:
            # Hash the content instead of the path: between runs, the file may move but not change.
            path = resolve_path(self._config.truth, self._config.env.data_dir)
            data = files.read_bytes(*files.resolve(path))
            about["truth_sha256"] = hashlib.sha256(data).hexdigest()
        if self._downstream:
            about["downstream"] = self._downstream.model_dump(
                mode="json", exclude_unset=True, exclude={"config", "output", "regions", "env"}
            )
        return about

    def invalid_reason(self, setting: Setting) -> str:
        """Return why a setting is invalid; an empty text if it is valid."""
        try:
            self._tuned.config(setting, "-")
        except ValueError as error:
            return str(error)
        return ""

    def resources(self) -> Resources:
        """Return the resources of a trial, which selects regions and may train on them."""
        if self._downstream:
            return for_trainings(self._config.cluster, self._downstream.cluster)
        return for_selections(self._config.cluster)

    def prepare(self, settings: tuple[Setting, ...]) -> TrialFunction:
        """Collect the proposals, and put them into Ray's object store for all trials."""
        import ray

        # {} is the kind of the default settings, which are always tried.
        kinds = self._kinds(settings) if settings else [{}, *self._kinds(())]
        folder = self._folder / "proposals"
        collected = collect_kinds(self._tuned, kinds, folder, with_feats=bool(self._downstream))
        downstream = None
        if self._downstream:
            metric = self.objective.name.partition("/")[2]
            objective = Objective(metric, self.objective.mode)
            downstream = Downstream(self._downstream, objective, self._folder / "trials")
        return SelectionTrials(
            tuned=self._tuned,
            candidates={name: ray.put(one.candidates) for name, one in collected.items()},
            constants={name: self._constants(one) for name, one in collected.items()},
            truth=self._truth and ray.put(self._truth),
            downstream=downstream,
            cwd=Path.cwd(),
        )

    def _constants(self, one: Collected) -> dict[str, float]:
        """Compute the metrics that are the same for all selections from these proposals."""
        measured = {} if math.isnan(one.rate) else {RATE: one.rate}
        if self._truth and self.objective.name in LABELS:
            from vlray.tuning.labels import label_accuracy

            measured |= label_accuracy(one.config, self._truth, self._folder / "labels")
        return measured

    def _check_objective(self) -> None:
        config, name = self._config, self._config.objective
        if not name:
            raise ValueError(f"--objective is missing; pass one of {', '.join(NAMES)}")
        is_downstream = name.partition("/")[0] == DOWNSTREAM
        if not is_downstream:
            check_name(name, NAMES, f", and {DOWNSTREAM}/METRIC of that training")
        if config.scheduler != "none":
            raise ValueError(
                f"--scheduler {config.scheduler} needs several evaluations per trial, but a trial "
                "of -- extract has one; remove it, or search -- train"
            )
        if name in NEED_TRUTH and not config.truth:
            raise ValueError(
                f"the objective {name} needs ground-truth boxes: pass --truth FILE, such as COCO's "
                "instances_val2017.json"
            )
        if is_downstream != bool(config.downstream):
            raise ValueError(
                f"the objective {DOWNSTREAM} and --downstream FILE.yaml (settings of vlray train) "
                "must be used together; pass both or neither"
            )
        if name in (RATE, *LABELS) and all(map(is_light, self._space)):
            raise ValueError(
                f"{name} does not depend on the selection, but {', '.join(self._space)} only "
                "change the selection; search an option of the detector, such as min_size or name"
            )

    def _is_finite(self) -> bool:
        heavy = {name: self._space[name] for name in self._space if not is_light(name)}
        return all(isinstance(domain, spaces.Choices) for domain in heavy.values())

    def _kinds(self, settings: Iterable[Setting]) -> list[Setting]:
        """Return the kinds of proposals that the settings need.

        If there are no settings, return the kinds for all settings of the space.
        """
        if settings := tuple(settings):
            return [heavy_of(setting) for setting in settings]
        heavy = {name: self._space[name] for name in self._space if not is_light(name)}
        if self._config.search == "optuna" and not self._is_finite():
            names = ", ".join(n for n, domain in heavy.items() if isinstance(domain, spaces.Range))
            raise ValueError(
                f"each value of {names} needs its own proposals, so optuna can only choose from a "
                "list: pass a number of values, such as --space min_size=300..600/4"
            )
        return list(spaces.grid(heavy)) if heavy else [{}]

    def _check_kind(self, kind: Setting) -> None:
        if not self.invalid_reason(kind):
            config = cast(ExtractConfig, self._tuned.config(kind, "-"))
            check_modes(config.detector, boxes_given=False)

    def _find_images(self, base: ExtractConfig) -> None:
        """Check that the images exist and that the storage is accessible."""
        images = find_images(base.images, base.data, base.env.data_dir)
        fs, root = files.resolve(images.root)
        with files.explained(images.root):
            if fs.get_file_info(root).type.name == "NotFound":
                raise FileNotFoundError(
                    f"there is no {images.root}; pass IMAGES after --: -- extract IMAGES"
                )

    def _read_truth(self, base: ExtractConfig) -> Truth:
        path = absolute(resolve_path(self._config.truth, self._config.env.data_dir))
        truth = read_truth(path, base.images.id_rule or "stem")
        self._check_labels(truth)
        return truth

    def _check_labels(self, truth: Truth) -> None:
        labels = {"label_accuracy": truth.classes, "attribute_accuracy": truth.attributes}
        name = self.objective.name
        if name in labels and not labels[name]:
            what = "classes" if name == "label_accuracy" else "attributes"
            raise ValueError(
                f"{self._config.truth} has no {what} of its boxes, which the objective {name} "
                "needs; pass a file with them, or another objective"
            )

    def _read_downstream(self) -> TrainConfig:
        from vlray.tuning.training import check_validation, is_scored

        # Placeholders: each trial has its own regions and output.
        args = ["--config", self._config.downstream, "--regions", "-", "--output", "-"]
        if self._config.trust_code:
            args.append("--trust-code")
        config = read(TrainConfig, args)
        check_validation(config, f"in {self._config.downstream}")
        if not is_scored(config) and self.objective.name == DOWNSTREAM:
            raise ValueError(
                f"the evaluations of {self._config.downstream} have losses but no score; name the "
                f"metric to optimize, such as --objective {DOWNSTREAM}/loss"
            )
        return config
