"""How fast LXMERT and VisualBERT learn VQA on one device, in each precision; a part of ``gpu``.

No Ray, no files: one batch of made-up questions (20 tokens) and regions (36 x 2048 float16), 3,129
answers, random parameters. A step is that of ``vlray.engine.loop``: copied from pinned memory,
forward, loss, backward, gradients clipped, BertAdam.

share of peak = examples/s * FLOP of an example / peak FLOP/s of the GPU in that precision

FLOP are those of the matrix products, 2mnk for an m x k by k x n one, on the way forth and back, as
``torch.utils.flop_counter`` counts them in a step: what is recomputed or not a matrix product is
not counted (the "model FLOPs utilization" of PaLM, arXiv:2204.02311, appendix B). Peaks are those
of the makers' data sheets, dense, without sparsity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vlray.config.model import ModelSection
from vlray.config.training import OptimSection, Precision
from vlray.engine.group import Group
from vlray.engine.loop import run_step
from vlray.engine.optim import make_optimizer
from vlray.loader.inputs import ModelInputs
from vlray.models.load import load_model
from vlray.models.precision import set_precision
from vlray.models.protocol import Goal

TOKENS, REGIONS, DIM, ANSWERS = 20, 36, 2048, 3129
WARM = 3  # steps before the clock runs: kernels are chosen, memory is found

PEAKS: dict[str, dict[Precision, float]] = {
    # TFLOP/s; the first whose name is in the device's. 16 bits accumulate in 32.
    "H200": {"fp32": 67, "tf32": 495, "bf16": 989, "fp16": 989},
    "H100 PCIe": {"fp32": 51, "tf32": 378, "bf16": 756, "fp16": 756},
    "H100": {"fp32": 67, "tf32": 495, "bf16": 989, "fp16": 989},
    "A100": {"fp32": 19.5, "tf32": 156, "bf16": 312, "fp16": 312},
    "Tesla V100": {"fp32": 15.7, "fp16": 125},
    "Tesla T4": {"fp32": 8.1, "fp16": 65},
}


def measure(
    name: str, device: torch.device, batch_size: int, precision: Precision, steps: int, rounds: int
) -> tuple[list[float], float]:
    """Measure a model's training.

    Returns:
        The examples/s of each round, and the most memory that was in use, GiB. No rounds: there was
        not enough memory.
    """
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        batch = batch_of(name, batch_size, pin=is_cuda)
        step = training_step(model_of(name).to(device), batch, precision)
        for _ in range(WARM):
            step()
        rates = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(steps):
                loss = step()
            # What a loss is is known when the device is done.
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{name}: the loss in {precision} is {loss.item()}")
            rates.append(steps * batch_size / (time.perf_counter() - began))
    except torch.cuda.OutOfMemoryError:
        return [], 0
    return rates, torch.cuda.max_memory_allocated(device) / 2**30 if is_cuda else 0


def training_step(
    model: nn.Module, batch: ModelInputs, precision: Precision
) -> Callable[[], Tensor]:
    """Make the function that trains a step and returns its loss, on the device."""
    device = next(model.parameters()).device
    set_precision(precision, device)
    options = SimpleNamespace(precision=precision, word_masking=0.0)
    training: Any = SimpleNamespace(
        config=SimpleNamespace(training=options, optim=OptimSection(clip=5.0)),
        group=Group(0, 1, device),
        optimizer=make_optimizer(model, OptimSection(), frozenset()),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
        data=SimpleNamespace(train=SimpleNamespace(collate=SimpleNamespace(tokenizer=None))),
    )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()

    def step() -> Tensor:
        (losses,), _ = run_step(training, model, parameters, [batch])
        return torch.stack([*losses.values()]).sum()

    return step


def count_flop(name: str) -> float:
    """Count the FLOP of the matrix products of one example in a step."""
    step = training_step(model_of(name), batch_of(name, 2), "fp32")
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 2


def model_of(name: str) -> nn.Module:
    """Build LXMERT-base or VisualBERT-base with random parameters."""
    torch.manual_seed(0)
    labels = tuple(f"answer {number}" for number in range(ANSWERS))
    goal = Goal("labels", DIM, labels=labels, soft=True)
    model: nn.Module = load_model(ModelSection(name=name), goal)
    return model


def batch_of(name: str, size: int, *, pin: bool = False) -> ModelInputs:
    """Draw a batch: every text as long as LXMERT's longest, every image with 36 regions."""
    torch.manual_seed(1)
    corners = torch.rand(size, REGIONS, 2, 2).sort(dim=2).values.flatten(2)
    tensors: dict[str, Any] = {
        "input_ids": torch.randint(999, 30_000, (size, TOKENS)),
        "attention_mask": torch.ones(size, TOKENS, dtype=torch.int64),
        "token_type_ids": torch.zeros(size, TOKENS, dtype=torch.int64),
        "visual_feats": torch.rand(size, REGIONS, DIM).half(),
        "visual_pos": corners,
        "visual_attention_mask": torch.ones(size, REGIONS, dtype=torch.int64),
        "targets": (torch.rand(size, ANSWERS) > 0.999).float(),
        "label_ids": torch.randint(ANSWERS, (size,)),
    }
    if pin:
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    if name == "visualbert":
        tensors.pop("visual_pos")
    tensors = {"visual_pos": None, **tensors}
    ids = tuple(map(str, range(size)))
    return ModelInputs(example_ids=ids, image_ids=tuple((one,) for one in ids), **tensors)
