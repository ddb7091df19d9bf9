"""What stops a training: numbers that are none, and too little memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlray.engine.group import Group
from vlray.loader.inputs import ModelInputs

NAN_BATCH = "nan-batch.json"


def refuse_not_finite(
    losses: Mapping[str, float],
    norm: float,
    batches: Sequence[ModelInputs],
    step: int,
    group: Group,
    run_folder: Path,
) -> None:
    """Stop at a loss or a gradient that is not a number, and keep the examples' ids.

    Args:
        losses: Of all workers, by name.
        norm: Of the gradients; 0 where it may be infinite (fp16's scaler leaves such steps out).
        batches: This worker's, of the step.
        step: Number of the step, from 1.
        group: The workers; all of them come here.
        run_folder: Where the first one writes the ids of all of them.

    Raises:
        FloatingPointError: One is not.
    """
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if not bad and math.isfinite(norm):
        return
    own = [
        {"example_id": example_id, "image_ids": images, "regions": batch.regions}
        for batch in batches
        for example_id, images in zip(batch.example_ids, batch.image_ids, strict=True)
    ]
    examples = [example for share in group.gather(own) for example in share]
    path = run_folder / NAN_BATCH
    if group.rank == 0:
        found = {name: str(value) for name, value in losses.items()} | {"gradient": str(norm)}
        values = {"step": step, "values": found, "examples": examples}
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    what = f"the loss {', '.join(bad)}" if bad else "the gradient"
    raise FloatingPointError(
        f"{what} of step {step} is not a finite number; the {len(examples)} examples of the step "
        f"are in {path}. The last checkpoint is as it was. Look for regions of these images that "
        "are broken (vlray view), or go on with a smaller --lr, a longer --warmup, a smaller "
        "--clip, or --precision bf16 in the place of fp16"
    )


def explain_out_of_memory(error: BaseException, batch: int, world: int, accumulate: int) -> str:
    """Say which options need less of it.

    Args:
        error: What torch said.
        batch: Examples of a step.
        world: Workers.
        accumulate: Batches that a step is computed in.
    """
    own = batch // (world * accumulate)
    more = next((n for n in range(2, own + 1) if own % n == 0), 1)
    smaller = (
        f"Give --accumulate {more * accumulate}, which computes the steps of {batch} examples in "
        "smaller batches; or "
        if more > 1
        else "Give "
    )
    return (
        f"a batch of {own} {'example' if own == 1 else 'examples'}, on each of {world} "
        f"{'worker' if world == 1 else 'workers'}, does not fit into the memory "
        f"({(str(error).strip() or type(error).__name__).splitlines()[0]}). {smaller}"
        "--activation-checkpointing, --precision bf16, fewer --loader.num-boxes or "
        f"--loader.max-tokens{', or a smaller --batch-size' if own > 1 else ''}"
    )
