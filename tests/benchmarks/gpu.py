"""How fast LXMERT-base learns VQA on one GPU, in each precision, and how much of the GPU it uses.

No Ray, no files: one batch of made-up questions (20 tokens) and regions (36 x 2048 float16), 3,129
answers, random parameters. A step is what `vlray.engine.loop` does with a batch: copied from pinned
memory, forward, loss, backward, gradients clipped, BertAdam. Needs torch, transformers and
vlray's settings (pydantic-settings, pyyaml, jaxtyping, pyarrow, tokenizers), but not Ray.

share of peak = examples/s * FLOP of an example / peak FLOP/s of the GPU in that precision

FLOP are those of the matrix products, 2mnk for an m x k by k x n one, on the way forth and back, as
``torch.utils.flop_counter`` counts them in a step: what is recomputed or not a matrix product is
not counted (the "model FLOPs utilization" of PaLM, arXiv:2204.02311, appendix B). Peaks are those
of the makers' data sheets, dense, without sparsity.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.report import print_header, print_table
from vlray.config.model import ModelSection
from vlray.config.training import OptimSection, Precision
from vlray.engine.optim import make_optimizer
from vlray.loader.inputs import ModelInputs
from vlray.models.load import load_model
from vlray.models.precision import autocast
from vlray.models.protocol import Goal

TOKENS, REGIONS, DIM, ANSWERS = 20, 36, 2048, 3129
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
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


def main() -> None:
    """Measure every precision at every batch size, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu: torch sees none here; --device cpu --batch-sizes 2 --steps 1 tries this out")
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print_header(
        f"gpu: LXMERT-base on VQA on one {name}, median of {args.rounds} rounds of {args.steps} "
        "steps",
        ["python", "-m", "tests.benchmarks.gpu", *sys.argv[1:]],
    )
    flop = count_flop()
    print(f"{flop / 1e9:,.1f} GFLOP an example\n")
    rows = []
    for batch_size in args.batch_sizes:
        for precision in args.precisions:
            rates, gib = measure(device, batch_size, precision, args.steps, args.rounds)
            rows.append([f"{batch_size}", precision, *describe(rates, gib, flop, precision, name)])
    columns = ["batch", "precision", "examples/s", "least", "most", "TFLOP/s", "% of peak", "GiB"]
    print_table(columns, rows)


def describe(
    rates: list[float], gib: float, flop: float, precision: Precision, device: str
) -> list[object]:
    """Give the cells of a row; no rates: there was not enough memory."""
    if not rates:
        return ["out of memory", *["-"] * 5]
    rate = statistics.median(rates)
    peaks = next((found for name, found in PEAKS.items() if name in device), {})
    share = 100 * rate * flop / 1e12 / peaks[precision] if precision in peaks else "-"
    return [rate, min(rates), max(rates), rate * flop / 1e12, share, gib or "-"]


def measure(
    device: torch.device, batch_size: int, precision: Precision, steps: int, rounds: int
) -> tuple[list[float], float]:
    """Give the examples/s of each round, and the most memory that was in use, GiB."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        step = training_step(lxmert().to(device), batch_of(batch_size, pin=is_cuda), precision)
        for _ in range(WARM):
            step()
        rates = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(steps):
                loss = step()
            # What a loss is is known when the device is done.
            if not torch.isfinite(loss):
                sys.exit(f"gpu: the loss in {precision} is {loss.item()}")
            rates.append(steps * batch_size / (time.perf_counter() - began))
    except torch.cuda.OutOfMemoryError:
        return [], 0
    return rates, torch.cuda.max_memory_allocated(device) / 2**30 if is_cuda else 0


def training_step(
    model: nn.Module, batch: ModelInputs, precision: Precision
) -> Callable[[], torch.Tensor]:
    """Make the function that trains a step and gives its loss."""
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, OptimSection(), frozenset())
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()

    def step() -> torch.Tensor:
        with autocast(precision, device):
            outputs = model(batch.to(device, non_blocking=True))
        loss: torch.Tensor = sum(loss.mean for loss in outputs.losses.values())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, 5.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def count_flop() -> float:
    """Count the FLOP of the matrix products of one example in a step."""
    step = training_step(lxmert(), batch_of(2), "fp32")
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 2


def lxmert() -> nn.Module:
    """Build LXMERT-base with random parameters."""
    torch.manual_seed(0)
    labels = tuple(f"answer {number}" for number in range(ANSWERS))
    goal = Goal("labels", DIM, labels=labels, soft=True)
    model: nn.Module = load_model(ModelSection(name="lxmert"), goal)
    return model


def batch_of(size: int, *, pin: bool = False) -> ModelInputs:
    """Draw a batch: every text as long as LXMERT's longest, every image with 36 regions."""
    torch.manual_seed(1)
    corners = torch.rand(size, REGIONS, 2, 2).sort(dim=2).values.flatten(2)
    tensors = {
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
    ids = tuple(map(str, range(size)))
    return ModelInputs(example_ids=ids, image_ids=tuple((one,) for one in ids), **tensors)


if __name__ == "__main__":
    main()
