"""Training on Ray Train workers, which resume from the last checkpoint after a failure."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from vlray.cluster.capacity import Node, capacity_of
from vlray.cluster.connection import connect, default_variables
from vlray.cluster.gpus import REMEDY, usable_gpus
from vlray.cluster.growth import Cluster, Growth, RayCluster, first_fit, wait_limit
from vlray.cluster.worker_logs import forwarded, log_to_stderr
from vlray.config.cluster import ClusterSection
from vlray.config.train import TrainConfig
from vlray.config.training import WorkersSection
from vlray.engine.ray_train import RAY_FOLDER
from vlray.engine.stop import StopRequest, on_signals
from vlray.engine.training import TrainingProgress
from vlray.engine.work import work
from vlray.models.memory import is_out_of_memory

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.train.torch import TorchTrainer

log = logging.getLogger("vlray.engine")

POLL_S = 1.0
"""Seconds between checks for a stop request."""


def fit(config: TrainConfig, run_folder: Path) -> TrainingProgress:
    """Train on the cluster.

    Raises:
        ValueError: The cluster is too small for the workers, or a worker raised a ValueError.
        WorkerGroupError: Workers failed more than ``cluster.max_failures`` times.
    """
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    connect(ClusterSection(address=config.cluster.address))
    workers, gpus = _allocate_when_up(config.cluster, RayCluster({}))
    least = config.cluster.min_workers or workers
    if gpus:
        # NCCL would end the workers with an error that names neither the driver nor CUDA.
        problem = ray.get(ray.remote(num_cpus=0, num_gpus=1)(_gpu_problem).remote())
        if problem:
            raise ValueError(problem)
    # The actor must not take a CPU that the workers need.
    control = ray.remote(num_cpus=0)(TrainControl).remote()
    inputs = {"config": config, "run_folder": run_folder, "control": control, "cwd": Path.cwd()}
    resources = {"CPU": config.cluster.cpus_per_worker} | ({"GPU": 1} if gpus else {})
    trainer = TorchTrainer(
        _work,
        train_loop_config=inputs,
        scaling_config=ScalingConfig(
            # A range is elastic: Ray Train restarts with as many workers as there is room for.
            num_workers=(least, workers) if least < workers else workers,
            use_gpu=gpus > 0,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name=RAY_FOLDER,
            storage_path=str(run_folder.absolute()),
            failure_config=FailureConfig(max_failures=config.cluster.max_failures),
            # Let Ray Train log only errors: vlray logs the progress itself.
            logging_config=LoggingConfig(log_level="ERROR"),
            # Hide torch's warning that find_unused_parameters is set but no parameter is unused.
            worker_runtime_env={"env_vars": {"TORCH_CPP_LOG_LEVEL": "ERROR"}},
        ),
    )
    count = f"{least} to {workers}" if least < workers else f"{workers}"
    log.info("%s workers of Ray Train, %s", count, f"{resources}")
    stop = StopRequest()
    stop.has_begun = True  # forward every signal: only the workers know whether steps have begun
    # Ray Train reads this variable in the driver's environment.
    variables = default_variables({"RAY_CHDIR_TO_TRIAL_DIR": "0"})
    with variables, forwarded(restores=False), on_signals(stop):
        return _wait(trainer, control, stop)


def _wait(trainer: TorchTrainer, control: ActorHandle, stop: StopRequest) -> TrainingProgress:
    """Run the trainer in a thread, and forward a stop request to the workers.

    In the main thread, Ray Train would kill the workers on Ctrl-C.
    """
    outcome: list[TrainingProgress | Exception] = []

    def run() -> None:
        try:
            outcome.append(trainer.fit().return_value)
        except Exception as error:  # the main thread raises it
            outcome.append(error)

    thread = threading.Thread(target=run, name="vlray-train", daemon=True)
    thread.start()
    is_sent = False
    while thread.is_alive():
        thread.join(POLL_S)
        if stop.requested() and not is_sent:
            control.request_stop.remote()
            is_sent = True
    # Raise a worker's own error, which is clearer than Ray Train's wrapper around it.
    if error := ray.get(control.error.remote()):
        raise error
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _allocate_when_up(options: WorkersSection, cluster: Cluster) -> tuple[int, int]:
    """Allocate the workers; on a cluster that may grow, request nodes for them and wait.

    Raises:
        ValueError: The cluster is too small, also after ``cluster.wait`` seconds.
    """
    seconds = wait_limit(options, cluster)
    if not seconds:
        return allocate(options, cluster.nodes())
    hint = ""
    if options.use_gpu == "auto":
        # GPU nodes may not be up yet. Without the user's word, a run never falls back to CPUs.
        options = options.model_copy(update={"use_gpu": "yes"})
        hint = "--cluster.use-gpu no trains on CPUs"
    gpus = 0 if options.use_gpu == "no" else 1
    most = max(options.workers, 1)
    growth = Growth(cluster, options.cpus_per_worker, gpus, most, explicit=True)
    try:
        return first_fit(lambda nodes: allocate(options, nodes), cluster, growth, seconds, hint)
    finally:
        growth.close()


def allocate(options: WorkersSection, nodes: list[Node]) -> tuple[int, int]:
    """Return the number of workers, and the number of GPUs per worker.

    With ``min_workers``, the cluster may be too small for all of them.

    Raises:
        ValueError: The cluster is too small. Ray itself would wait for the resources forever.
    """
    total_cpus = sum(node.cpus for node in nodes)
    total_gpus = int(sum(node.gpus for node in nodes))
    if options.use_gpu == "yes" and not total_gpus:
        raise ValueError(
            f"cluster.use_gpu is yes, but none of the cluster's {len(nodes)} nodes has a GPU"
        )
    gpus = 1 if total_gpus and options.use_gpu != "no" else 0
    workers = options.workers or (total_gpus if gpus else 1)
    least = options.min_workers or workers
    capacity = capacity_of(nodes, options.cpus_per_worker, gpus, at_most=least)
    if capacity < least:
        raise ValueError(
            f"{least} workers with {options.cpus_per_worker:g} CPUs and {gpus} GPUs each were "
            f"requested, but the cluster's {len(nodes)} node(s) with {total_cpus:g} CPUs and "
            f"{total_gpus} GPUs hold {capacity}; lower --workers or --cluster.cpus-per-worker, or "
            "add nodes"
        )
    return workers, gpus


class TrainControl:
    """Actor that forwards stop requests to the workers, and the workers' errors to the driver."""

    def __init__(self) -> None:
        self._stop_requested = False
        self._error: Exception | None = None

    def request_stop(self) -> None:
        """Ask the workers to stop after the current step."""
        self._stop_requested = True

    def stop_requested(self) -> bool:
        """Return whether the workers should stop."""
        return self._stop_requested

    def report_error(self, error: Exception) -> None:
        """Store an error that would recur after a restart; only the first one is kept."""
        self._error = self._error or error

    def error(self) -> Exception | None:
        """Return the stored error, or None."""
        return self._error


class RemoteStop(StopRequest):
    """Stop request that polls a `TrainControl` actor without blocking the training."""

    def __init__(self, control: ActorHandle) -> None:
        super().__init__()
        self._control, self._answer, self._asked_at = control, None, 0.0

    def requested(self) -> bool:
        """Return whether the actor has reported a stop request, by the answers received so far."""
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            if ray.get(self._answer):
                self.request()
            self._answer = None
        if self._answer is None and time.monotonic() >= self._asked_at + POLL_S:
            self._answer, self._asked_at = self._control.stop_requested.remote(), time.monotonic()
        return super().requested()


def _work(inputs: dict[str, Any]) -> TrainingProgress | None:
    """Run one Ray Train worker.

    Ray Train restarts the workers after any error. An error that would recur after a restart is
    stored in `TrainControl`; the restarted workers then return at once, and the driver raises it.
    """
    log_to_stderr(inputs["config"].env)
    # Ray Train would print all messages of the root logger, every report and every worker's error.
    logging.getLogger("vlray").propagate = False
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    control = inputs["control"]
    if ray.get(control.error.remote()):
        return None
    # Relative paths in the settings refer to the driver's working directory, if this node has it.
    if inputs["cwd"].is_dir():
        os.chdir(inputs["cwd"])
    try:
        return work(inputs["config"], inputs["run_folder"], RemoteStop(control))
    except Exception as error:
        if is_permanent(error):
            ray.get(control.report_error.remote(_picklable(error)))
        raise


def is_permanent(error: Exception) -> bool:
    """Return whether an error would recur after a restart; a lost worker or node would not."""
    return isinstance(
        error, ValueError | FloatingPointError | ImportError | FileNotFoundError
    ) or is_out_of_memory(error)


def _gpu_problem() -> str:
    """Return why torch cannot use the GPU that Ray assigned to this task; '' if it can."""
    try:
        usable_gpus()
    except ValueError as error:
        return f"{error}; {REMEDY}; --cluster.use-gpu no trains on CPUs"
    return ""


def _picklable(error: Exception) -> Exception:
    """Return a copy with type and message only: traceback and causes may not be picklable."""
    kind = type(error) if type(error).__module__ == "builtins" else RuntimeError
    if is_out_of_memory(error):
        kind = MemoryError
    return kind(str(error))
