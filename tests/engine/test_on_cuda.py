"""A training step of every model and objective on a pretended CUDA device.

A step must not wait for the device, and must not launch a kernel for each parameter or token.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.fixtures.pretended_cuda import pretended_cuda
from tests.models.batches import GOALS, LAYERS, batch_for, section
from tests.models.pretraining_batches import (
    ANSWERS,
    ATTRIBUTES,
    DIM,
    OBJECTS,
    SMALL,
    padded,
    pretraining_batch,
)
from vlray.config.model import ModelSection
from vlray.config.training import OptimSection
from vlray.engine.group import Group
from vlray.engine.loop import distributed, read_step, run_step
from vlray.engine.optim import make_optimizer
from vlray.loader.inputs import ModelInputs
from vlray.models.load import load_model
from vlray.models.precision import set_precision
from vlray.models.protocol import Goal

TOKENIZER = SimpleNamespace(id_of={"[CLS]": 1, "[SEP]": 2, "[MASK]": 3}.__getitem__)
CASES = [(model, task) for model in LAYERS for task in (*GOALS, "pretraining", "matching")]


def case_of(model: str, task: str) -> tuple[Any, ModelInputs]:
    """Build a tiny model without dropout, and a batch for it."""
    torch.manual_seed(0)
    if task in GOALS:
        built = load_model(section(model), GOALS[task])
        batch = batch_for(GOALS[task], numbers=4 if model == "lxmert" else 0)
    else:
        answers = ANSWERS if (model, task) == ("lxmert", "pretraining") else ()
        counts = {"num_objects": OBJECTS, "num_attributes": ATTRIBUTES} if answers else {}
        sizes = LAYERS[model] | {"vocab_size": SMALL["vocab_size"]}
        goal = Goal(task, DIM, answers, **counts)
        built, batch = (
            load_model(ModelSection(name=model, architecture=sizes), goal),
            padded(pretraining_batch()),
        )
    for module in built.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return built.train(), batch


def training_of(model: nn.Module, device: torch.device, precision: str) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(
            training=SimpleNamespace(precision=precision, word_masking=0.2),
            optim=SimpleNamespace(clip=5.0, clip_each=0.25),
        ),
        data=SimpleNamespace(train=SimpleNamespace(collate=SimpleNamespace(tokenizer=TOKENIZER))),
        group=Group(0, 1, device),
        optimizer=make_optimizer(model, OptimSection(), frozenset()),
        # A scale at which the gradients of these models do not overflow.
        scaler=torch.amp.GradScaler(device.type, 64.0, enabled=precision == "fp16"),
    )


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_step_never_waits_and_learns_what_it_learns_on_a_cpu(
    name: str, task: str, precision: str
) -> None:
    model, batch = case_of(name, task)
    on_cpu = training_of(model, torch.device("cpu"), "fp32")
    before = [parameter.detach().clone() for parameter in trained(model)]
    torch.manual_seed(1)
    losses, norm = run_step(on_cpu, model, trained(model), [batch])
    expected, expected_norm, *_ = read_step(losses, norm, (False, True), on_cpu.group)
    # Where this does not hold, DistributedDataParallel has to look for unused parameters.
    moved = [not torch.equal(one, two) for one, two in zip(before, trained(model), strict=True)]
    assert all(moved) or not model.uses_all_parameters

    with pretended_cuda() as counts:
        model, batch = case_of(name, task)
        cuda = torch.device("cuda", 0)
        model.to(cuda)
        training = training_of(model, cuda, precision)
        pinned = batch_pinned(batch)
        torch.manual_seed(1)
        counts.reset()
        losses, norm = run_step(training, model, trained(model), [pinned])
        # The scaler of fp16 has to know whether the gradients overflowed.
        assert sum(counts.waits.values()) == (precision == "fp16"), counts.waits
        found, found_norm, asked = read_step(losses, norm, (False, True), training.group)
        assert asked == [False, True]
        assert sum(counts.waits.values()) == 1 + (precision == "fp16"), counts.waits
        del counts.launches["zeros_like"]  # the first step's: the optimizer's state
        limit = 1250 if task == "pretraining" else 1050
        assert sum(counts.launches.values()) <= limit, counts.launches
    assert found == pytest.approx(expected, rel=0.03, abs=0.03)
    if expected_norm < 1000:  # beyond that, the scaled gradients overflow in fp16
        assert found_norm == pytest.approx(expected_norm, rel=0.1)


def batch_pinned(batch: ModelInputs) -> ModelInputs:
    """Return a batch as the loader gives it on a machine with a GPU."""

    def pinned(values: Any) -> Any:
        tensors = {
            name: value.pin_memory()
            for name, value in vars(values).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(values, **tensors)

    parts = {
        name: pinned(getattr(batch, name))
        for name in ("pretraining", "phrases")
        if getattr(batch, name) is not None
    }
    return replace(pinned(batch), **parts)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_step_on_a_real_gpu(name: str, task: str, precision: str) -> None:
    found = []
    for device, kind in ((torch.device("cpu"), "fp32"), (torch.device("cuda"), precision)):
        model, batch = case_of(name, task)
        model.to(device)
        set_precision(kind, device)
        training = training_of(model, device, kind)
        torch.manual_seed(1)
        losses, norm = run_step(training, model, trained(model), [batch])
        found.append(read_step(losses, norm, (False, False), training.group)[0])
    assert found[1] == pytest.approx(found[0], rel=0.03, abs=0.03)


def join_and_step(rank: int, backend: str, address: str, folder: str) -> None:
    """Train a step as one of two workers, and save the parameters."""
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=2)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    model, batch = case_of("lxmert", "answers")
    training = training_of(model.to(device), device, "fp32")
    training.group = Group(rank, 2, device)
    wrapped = distributed(model, training.group)
    losses, norm = run_step(training, wrapped, trained(model), [batch])
    read_step(losses, norm, (False, False), training.group)
    torch.save([parameter.cpu() for parameter in trained(model)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two GPUs")
def test_two_workers_learn_the_same_over_nccl(tmp_path: Path, processes: None) -> None:
    address = f"file://{tmp_path / 'meet'}"
    torch.multiprocessing.spawn(join_and_step, ("nccl", address, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
