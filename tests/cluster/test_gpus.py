"""The GPU that a process may use: what Ray assigned, what torch sees, and TF32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vlray.cluster import gpus
from vlray.cluster.tf32 import is_tf32, set_tf32, tf32
from vlray.config.detector import DetectorSection
from vlray.detect.device import batch_size_of, device_of, open_device
from vlray.engine import workers
from vlray.models.precision import autocast, set_precision
from vlray.stream.detector import with_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets what Ray assigned and how many GPUs torch sees."""

    def pretend(assigned: list[str] | None, visible: int) -> None:
        context = SimpleNamespace(
            worker=SimpleNamespace(mode=0 if assigned is None else 1),
            get_accelerator_ids=lambda: {"GPU": assigned},
        )
        ray = SimpleNamespace(
            is_initialized=lambda: True, get_runtime_context=lambda: context, WORKER_MODE=1
        )
        monkeypatch.setitem(gpus.sys.modules, "ray", ray)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)

    return pretend


@pytest.mark.parametrize(
    ("assigned", "visible", "option", "device", "batch_size"),
    [
        (None, 0, "auto", "cpu", 1),
        (None, 1, "auto", "cuda", 8),
        (["0"], 1, "auto", "cuda", 8),
        ([], 4, "auto", "cpu", 1),  # Ray leaves all GPUs visible to num_gpus=0
        (["0"], 0, "cpu", "cpu", 1),
        (["0"], 1, "cpu", "cpu", 1),
    ],
)
def test_a_detector_computes_where_ray_put_it(
    machine, assigned, visible, option, device, batch_size
) -> None:
    machine(assigned, visible)
    options = DetectorSection(device=option)
    assert device_of(options).type == device
    assert batch_size_of(options) == batch_size
    # A child process has no Ray to ask, so the actor tells it.
    settled = with_device(options)
    machine(None, visible)
    assert device_of(settled).type == device


def test_a_gpu_that_torch_does_not_see_is_refused_with_the_versions(machine, monkeypatch) -> None:
    machine(["3"], 0)
    monkeypatch.setattr(gpus, "driver_version", lambda: "535.104")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    words = r"Ray assigned GPU 3 .* torch cannot use it: torch \S+ is built for CUDA 13.0, NVIDIA "
    words += r"driver 535.104; update .*; --detector.device cpu"
    for option in ("auto", "cuda"):
        with pytest.raises(ValueError, match=words):
            device_of(DetectorSection(device=option))
    assert "--cluster.use-gpu no trains on CPUs" in workers._gpu_problem()
    machine(["3"], 1)
    assert workers._gpu_problem() == ""


def test_cuda_without_an_assigned_gpu_is_refused(machine) -> None:
    machine([], 4)
    with pytest.raises(ValueError, match="device=cuda, but this process has no CUDA device"):
        device_of(DetectorSection(device="cuda"))


def precisions() -> set[str]:
    operations = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    # torch's compiler reads the older flags, and torch raises if they contradict the new ones.
    older = {torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32}
    assert older == {torch.get_float32_matmul_precision() == "high"}
    return {operation.fp32_precision for operation in operations}


def test_float32_is_float32_in_detectors_and_in_training() -> None:
    cpu = torch.device("cpu")
    set_tf32(True)
    open_device(DetectorSection(device="cpu"))
    assert precisions() == {"ieee"}
    set_precision("tf32", cpu)
    assert precisions() == {"tf32"}
    with autocast("tf32", cpu):
        pass
    assert precisions() == {"tf32"}  # also in the backward pass, which is outside
    with tf32(False):
        assert not is_tf32()
    for precision in ("fp32", "bf16", "fp16"):
        set_precision("tf32", cpu)
        set_precision(precision, cpu)
        assert precisions() == {"ieee"}
