"""A training by the workers of Ray Train, which start again from the last checkpoint when lost."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, cast

import ray

from vlray.cluster.capacity import Node, capacity_of, living_nodes
from vlray.cluster.connection import connect, default_variables
from vlray.cluster.worker_logs import forwarded, log_to_stderr
from vlray.config.cluster import ClusterSection
from vlray.config.train import TrainConfig
from vlray.config.training import WorkersSection
from vlray.engine.stop import Stop, on_signals
from vlray.engine.training import Progress
from vlray.engine.work import work
from vlray.models.memory import is_out_of_memory

log = logging.getLogger("vlray.engine")

POLL_S = 1.0
"""How often somebody asks whether to stop."""


def fit(config: TrainConfig, run_folder: Path) -> Progress:
    """Train on the cluster.

    Raises:
        ValueError: The cluster does not hold the workers; or the workers' own mistake.
        WorkerGroupError: Workers were lost more often than ``cluster.max_failures``.
    """
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    connect(ClusterSection(address=config.cluster.address))
    workers, gpus = allocate(config.cluster, living_nodes())
    desk = ray.remote(num_cpus=0)(Desk).remote()
    given = {"config": config, "run_folder": run_folder, "desk": desk, "folder": Path.cwd()}
    resources = {"CPU": config.cluster.cpus_per_worker} | ({"GPU": 1} if gpus else {})
    trainer = TorchTrainer(
        _work,
        train_loop_config=given,
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name="ray",
            storage_path=str(run_folder.absolute()),
            failure_config=FailureConfig(max_failures=config.cluster.max_failures),
            logging_config=LoggingConfig(log_level="ERROR"),
            # torch warns of searching for parameters without a gradient where there are none.
            worker_runtime_env={"env_vars": {"TORCH_CPP_LOG_LEVEL": "ERROR"}},
        ),
    )
    log.info("%d workers of Ray Train, %s", workers, f"{resources}")
    stop = Stop()
    stop.has_begun = True  # the workers know; they are asked to end, whatever they do
    # Ray Train takes it from the environment of the process that calls it.
    with default_variables({"RAY_CHDIR_TO_TRIAL_DIR": "0"}), forwarded(), on_signals(stop):
        return _wait(trainer, desk, stop)


def _wait(trainer: Any, desk: Any, stop: Stop) -> Progress:
    """Wait for the end, and pass on the wish to stop.

    Ray Train takes Ctrl-C as the wish to be killed when it runs in the main thread.
    """
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(trainer.fit().return_value)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, name="vlray-train", daemon=True)
    thread.start()
    is_passed_on = False
    while thread.is_alive():
        thread.join(POLL_S)
        if stop.wanted() and not is_passed_on:
            desk.stop.remote()
            is_passed_on = True
    if mistake := ray.get(desk.mistake.remote()):
        raise mistake
    if isinstance(found[0], Exception):
        raise found[0]
    return cast(Progress, found[0])


def allocate(options: WorkersSection, nodes: list[Node]) -> tuple[int, int]:
    """Decide on the workers, and refuse what the cluster cannot hold: Ray would wait for it.

    Returns:
        The number of workers, and of GPUs for each.

    Raises:
        ValueError: More is asked for than there is.
    """
    cpus, there = sum(node.cpus for node in nodes), int(sum(node.gpus for node in nodes))
    if options.use_gpu == "yes" and not there:
        raise ValueError(
            f"cluster.use_gpu is yes, but none of the cluster's {len(nodes)} nodes has a GPU"
        )
    gpus = 1 if there and options.use_gpu != "no" else 0
    workers = options.workers or (there if gpus else 1)
    capacity = capacity_of(nodes, options.cpus_per_worker, gpus, at_most=workers)
    if capacity < workers:
        raise ValueError(
            f"{workers} workers of {options.cpus_per_worker:g} CPUs and {gpus} GPUs are asked for, "
            f"but the cluster's {len(nodes)} node(s) with {cpus:g} CPUs and {there} GPUs hold "
            f"{capacity}; lower --workers or --cluster.cpus-per-worker, or add nodes"
        )
    return workers, gpus


class Desk:
    """Where the driver and the workers leave messages for each other."""

    def __init__(self) -> None:
        self._is_stopped = False
        self._mistake: Exception | None = None

    def stop(self) -> None:
        """Ask the workers to stop."""
        self._is_stopped = True

    def is_stopped(self) -> bool:
        """Tell whether they are to stop."""
        return self._is_stopped

    def leave(self, mistake: Exception) -> None:
        """Keep what makes starting again useless; the first that is left."""
        self._mistake = self._mistake or mistake

    def mistake(self) -> Exception | None:
        """Give it; None: there is none."""
        return self._mistake


class DeskStop(Stop):
    """Asks the desk, now and then, and does not wait for the answer."""

    def __init__(self, desk: Any) -> None:
        super().__init__()
        self._desk, self._answer, self._asked = desk, None, 0.0

    def wanted(self) -> bool:
        """Tell whether the answer to the last question was yes."""
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            if ray.get(self._answer):
                self.ask()
            self._answer = None
        if self._answer is None and time.monotonic() >= self._asked + POLL_S:
            self._answer, self._asked = self._desk.is_stopped.remote(), time.monotonic()
        return super().wanted()


def _work(given: dict[str, Any]) -> Progress | None:
    """Be a worker.

    Ray Train starts the workers again whatever happened. What would happen again is left at the
    desk: the workers then come back at once, and the driver raises it.
    """
    log_to_stderr(given["config"].env)
    # Ray Train prints what comes to the root, each report there, and each error of each worker.
    logging.getLogger("vlray").propagate = False
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    desk = given["desk"]
    if ray.get(desk.mistake.remote()):
        return None
    if given["folder"].is_dir():
        os.chdir(given["folder"])
    try:
        return work(given["config"], given["run_folder"], DeskStop(desk))
    except Exception as error:
        if would_happen_again(error):
            ray.get(desk.leave.remote(_plain(error)))
        raise


def would_happen_again(error: Exception) -> bool:
    """Tell a mistake from the loss of a worker, a node or a connection."""
    return isinstance(
        error, ValueError | FloatingPointError | ImportError | FileNotFoundError
    ) or is_out_of_memory(error)


def _plain(error: Exception) -> Exception:
    """Leave away what may not be pickled: where it happened, and its causes."""
    kind = type(error) if type(error).__module__ == "builtins" else RuntimeError
    if is_out_of_memory(error):
        kind = MemoryError
    return kind(str(error))
