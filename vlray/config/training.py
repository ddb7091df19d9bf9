"""Options of the training loop: how long, how fast, in which numbers, on how many workers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vlray.settings.section import Section

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
HoldoutGroup = Literal["image", "example"]
Count = Annotated[int, Field(ge=0)]


class OptimSection(Section):
    """How parameters are changed; the defaults are LXMERT's for VQA."""

    optimizer: Literal["bert-adam", "adamw"] = "bert-adam"
    """``bert-adam``: Adam without bias correction, as BERT and LXMERT were trained. ``adamw``:
    torch's."""

    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Learning rate after the warm-up. LXMERT: 5e-5 for VQA and NLVR2, 1e-5 for GQA."""

    new_lr: Annotated[float, Field(ge=0)] = 0
    """Learning rate of the parameters that ``model.weights`` did not fill (a new head). 0: as
    ``lr``."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's."""

    eps: Annotated[float, Field(gt=0)] = 1e-6
    """Adam's."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of every step and parameter, times the learning rate."""

    decay_norms: bool = True
    """Decay biases and layer norms as well, as LXMERT did."""

    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps in which the learning rate rises from 0."""

    decay: Literal["linear", "cosine", "none"] = "linear"
    """How it falls to 0 afterwards."""

    clip: Annotated[float, Field(ge=0)] = 5.0
    """Largest norm of all gradients together; 0: any."""


class TrainingSection(Section):
    """The loop."""

    epochs: Annotated[float, Field(gt=0)] = 4
    """Passes over the examples."""

    steps: Count = 0
    """Steps of the optimizer, in the place of ``epochs``; 0: as many as the epochs have."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples of a step: of all workers and accumulated batches together."""

    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches that a step is computed in, one after the other: less memory, the same result. In
    pretraining each of them weighs the same, however much of it was masked."""

    precision: Precision = "fp32"
    """``bf16`` and ``fp16`` compute in 16 bits (the loss and the parameters stay in 32), ``tf32``
    multiplies matrices faster on NVIDIA GPUs since A100."""

    seed: Count = 9595
    """Of everything that is drawn: order, masks, dropout, new parameters."""

    evaluate_every: Count = 0
    """Steps between evaluations; 0: at the end of each epoch."""

    save_every: Count = 0
    """Steps between checkpoints; 0: with each evaluation. What is lost in a crash is what was done
    since the last."""

    patience: Count = 0
    """End after so many evaluations without a better one; 0: never."""

    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between lines of metrics.jsonl and points of the curves."""


class WorkersSection(Section):
    """Who computes."""

    address: str = ""
    """Of a running Ray cluster; ``local`` starts one here. Empty: a running cluster where there is
    one, else local."""

    workers: Count = 0
    """Ray Train workers, each with a GPU where there are any. 0: one for each GPU of the cluster,
    or without Ray, in this process, where there is one GPU at most and no cluster."""

    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPUs that each of them takes."""

    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """Whether workers take GPUs; ``auto``: where there are any."""

    max_failures: Annotated[int, Field(ge=-1)] = 3
    """How often the workers start again from the last checkpoint when one of them, or its node, is
    lost; -1: always."""


class WatchSection(Section):
    """Where the run can be followed, beside its log, metrics.jsonl and curves.png."""

    tensorboard: bool = True
    """Write event files into the run folder."""

    mlflow: str = ""
    """Tracking URI of MLflow: ``http://HOST:5000`` (``pip install mlflow-skinny``) or
    ``sqlite:///runs.db`` (``pip install mlflow``); empty: none."""

    wandb: str = ""
    """Project of Weights & Biases (``pip install wandb``; ``WANDB_MODE=offline`` keeps it here);
    empty: none."""


class HoldoutSection(Section):
    """What is evaluated on while it trains."""

    valid: str = ""
    """``dataset:split`` to evaluate on. Empty, and no ``holdout``: nothing is, and the last
    checkpoint is the best."""

    holdout: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of DATA that is kept out of the training and evaluated on, in the place of ``valid``;
    the same examples whatever the seed."""

    holdout_by: HoldoutGroup = "image"
    """What stays together: all examples of an ``image``, so that images are evaluated on that were
    never seen; or each ``example`` alone, where the test split has the training's images too
    (VQA-RAD)."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.valid and self.holdout:
            raise ValueError(f"valid={self.valid} and holdout={self.holdout}; give one of the two")
        return self
