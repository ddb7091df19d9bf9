"""Failures that end a training: non-finite losses or gradients, and out-of-memory errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlray.engine.group import Group
from vlray.loader.inputs import ModelInputs

NAN_BATCH = "nan-batch.json"


def check_finite(
    losses: Mapping[str, float],
    norm: float,
    batches: Sequence[ModelInputs],
    step: int,
    group: Group,
    run_folder: Path,
) -> None:
    """Check that the losses and the gradient norm are finite.

    If any of them is not, write the ids of the step's examples to ``nan-batch.json``.

    Args:
        losses: Mean losses over all workers, by name.
        norm: Norm of the gradients. Pass 0 to skip this check: the fp16 gradient scaler skips
            steps with non-finite gradients itself.
        batches: This worker's batches in the step.
        step: Number of the step, from 1.
        group: The workers; all of them must call this function.
        run_folder: Folder in which the first worker writes ``nan-batch.json``.

    Raises:
        FloatingPointError: A loss or the norm is not finite.
    """
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if not bad and math.isfinite(norm):
        return
    # Losses and norm are equal on all workers, so all of them get here, gather and raise.
    local_examples = [
        {"example_id": example_id, "image_ids": images, "regions": batch.regions}
        for batch in batches
        for example_id, images in zip(batch.example_ids, batch.image_ids, strict=True)
    ]
    examples = [example for share in group.gather(local_examples) for example in share]
    path = run_folder / NAN_BATCH
    if group.rank == 0:
        # Write the values as strings: JSON has no NaN or infinity.
        values = {name: str(value) for name, value in losses.items()} | {"gradient": str(norm)}
        report = {"step": step, "values": values, "examples": examples}
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    what = f"the loss {', '.join(bad)}" if bad else "the gradient"
    raise FloatingPointError(
        f"{what} of step {step} is not a finite number; the {len(examples)} examples of the step "
        f"are listed in {path}. The last checkpoint is unchanged. Check the regions of these "
        "images (vlray view), or resume with a smaller --lr, a longer --warmup, a smaller --clip, "
        "or --precision bf16 instead of fp16"
    )


def explain_out_of_memory(error: BaseException, batch: int, world: int, accumulate: int) -> str:
    """Describe an out-of-memory error and the options that reduce memory use.

    Args:
        error: The error that torch raised.
        batch: Number of examples in a step, over all workers.
        world: Number of workers.
        accumulate: Number of batches that each worker accumulates in a step.
    """
    size = batch // (world * accumulate)
    # The smallest factor that still divides the batch evenly.
    factor = next((n for n in range(2, size + 1) if size % n == 0), 1)
    smaller = (
        f"Pass --accumulate {factor * accumulate}, which splits the steps of {batch} examples into "
        "smaller batches; or "
        if factor > 1
        else "Pass "
    )
    return (
        f"a batch of {size} {'example' if size == 1 else 'examples'}, on each of {world} "
        f"{'worker' if world == 1 else 'workers'}, does not fit into the memory "
        f"({(str(error).strip() or type(error).__name__).splitlines()[0]}). {smaller}"
        "--activation-checkpointing, --precision bf16, fewer --loader.num-boxes or "
        f"--loader.max-tokens{', or a smaller --batch-size' if size > 1 else ''}"
    )
