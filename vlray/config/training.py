"""Options of the training loop: schedule, optimizer, precision, workers, evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.settings.section import Section

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
HoldoutGroup = Literal["image", "example"]
Count = Annotated[int, Field(ge=0)]


class OptimSection(Section):
    """Optimizer and learning rate schedule; the defaults are LXMERT's for VQA."""

    optimizer: Literal["bert-adam", "adamw"] = "bert-adam"
    """``bert-adam``: Adam without bias correction, with which BERT and LXMERT were trained.
    ``adamw``: AdamW of torch."""

    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Learning rate after warm-up. LXMERT: 5e-5 for VQA and NLVR2, 1e-5 for GQA."""

    new_lr: Annotated[float, Field(ge=0)] = 0
    """Learning rate of parameters that ``model.weights`` did not fill (a new head). 0: the value of
    ``lr``."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's moment estimates."""

    # BertAdam's value; Adam's usual one is 1e-8.
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """Term that Adam adds to the denominator."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay per step; it is multiplied by the learning rate."""

    decay_norms: bool = True
    """Also decay biases and layer norms, as LXMERT did."""

    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps in which the learning rate rises linearly from 0."""

    decay: Literal["linear", "cosine", "none"] = "linear"
    """Schedule of the learning rate after warm-up: to 0, or constant (``none``)."""

    # LXMERT's fine-tuning scripts clip at 5.
    clip: Annotated[float, Field(ge=0)] = 5.0
    """Maximum norm of the gradients; 0: no clipping."""

    clip_each: Annotated[float, Field(ge=0)] = 0
    """Maximum norm of each parameter tensor's gradient, after ``clip``. VisualBERT: 1, without
    ``clip``, as its BertAdam does. 0: no clipping."""

    ema: Annotated[float, Field(ge=0, lt=1)] = 0
    """Exponential moving average of the weights: the share that each step keeps, such as 0.98
    for some hundred steps. Evaluations and checkpoints have the average. 0: off."""


class TrainingSection(Section):
    """Training loop."""

    epochs: Annotated[float, Field(gt=0)] = 4
    """Passes over the training examples; fractions are allowed."""

    steps: Count = 0
    """Optimizer steps; overrides ``epochs``. 0: as many as the epochs have."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples per step, over all workers and accumulated batches."""

    accumulate: Annotated[int, Field(ge=1)] = 1
    """Gradient accumulation: batches per step, computed one after another. Needs less memory; the
    result is the same. In pretraining each batch has the same weight, however many tokens were
    masked."""

    group_by_length: bool = False
    """Let texts of similar lengths share a batch: less padding and faster steps, in an order that
    is a little less random."""

    word_masking: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of the tokens that each step of a fine-tuning replaces by [MASK], against overfitting;
    evaluations see the whole text."""

    precision: Precision = "fp32"
    """``bf16`` and ``fp16``: compute in 16 bits (loss and parameters stay in 32). ``tf32``: faster
    matrix products on NVIDIA GPUs, A100 or newer."""

    # The default of LXMERT's param.py.
    seed: Count = 9595
    """Random seed of the order, masks, dropout and new parameters."""

    evaluate_every: Count = 0
    """Steps between evaluations; 0: at the end of each epoch."""

    save_every: Count = 0
    """Steps between checkpoints; 0: at each evaluation. A crash loses the steps since the last
    checkpoint."""

    patience: Count = 0
    """Early stopping: number of evaluations without improvement; 0: no early stopping."""

    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between entries of metrics.jsonl and of the curves."""


class WorkersSection(Section):
    """Ray cluster, workers and GPUs."""

    address: str = ""
    """Address of a running Ray cluster: ``auto`` for the one on this machine, ``local`` to start
    one. Empty: ``RAY_ADDRESS``, else training needs no Ray unless there are ``workers`` or several
    GPUs; these use a running cluster, else ``local``."""

    workers: Count = 0
    """Ray Train workers, each with a GPU if there are any. 0: one for each GPU of the cluster;
    without a cluster and with one GPU at most, training runs in this process, without Ray. On the
    command line, ``MIN:MAX`` also sets ``min_workers``."""

    min_workers: Count = 0
    """Minimum number of workers for elastic training: training continues with fewer ``workers``
    after the loss of a node, and with more when nodes join. The batch size stays, and so do the
    losses. 0: the number of workers is fixed."""

    wait: Annotated[float, Field(ge=-1)] = -1
    """Seconds to wait for the nodes of the workers, on a cluster that starts nodes on demand; GPUs
    are then used unless ``use_gpu`` is ``no``. 0: use only the nodes that are up. -1: 1800 on a
    cluster that KubeRay or Ray's cluster launcher has started, else 0."""

    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPUs per worker."""

    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """Whether workers use GPUs; ``auto``: if there are any."""

    max_failures: Annotated[int, Field(ge=-1)] = 3
    """Number of restarts from the last checkpoint after the loss of a worker or its node; -1:
    unlimited."""

    @model_validator(mode="before")
    @classmethod
    def _split_range(cls, values: Any) -> Any:
        """Split ``workers=MIN:MAX``."""
        if isinstance(values, dict) and isinstance(text := values.get("workers"), str):
            least, colon, most = text.partition(":")
            if colon:
                return values | {"min_workers": least, "workers": most}
        return values

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.min_workers > self.workers:
            raise ValueError(
                f"min_workers={self.min_workers} exceeds workers={self.workers}; pass MIN:MAX, "
                "such as --workers 4:8"
            )
        return self


class WatchSection(Section):
    """Experiment trackers, in addition to the log, metrics.jsonl and curves.png."""

    tensorboard: bool = True
    """Write TensorBoard event files into the run folder."""

    mlflow: str = ""
    """Tracking URI of MLflow: ``http://HOST:5000`` (``pip install mlflow-skinny``) or
    ``sqlite:///runs.db`` (``pip install mlflow``). Empty: off."""

    wandb: str = ""
    """Project of Weights & Biases (``pip install wandb``; ``WANDB_MODE=offline`` keeps the data
    local). Empty: off."""


class HoldoutSection(Section):
    """Evaluation data during training."""

    valid: str = ""
    """``dataset:split`` to evaluate on. If it is empty and ``holdout`` is 0, there is no
    evaluation, and the last checkpoint is the best."""

    holdout: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of DATA that is excluded from training and evaluated on, instead of ``valid``. The
    examples do not depend on the seed."""

    holdout_by: HoldoutGroup = "image"
    """Unit of the holdout: ``image`` keeps all examples of an image together, so that evaluation
    images are unseen; ``example`` splits single examples, for data whose test split shares images
    with the training split (VQA-RAD)."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.valid and self.holdout:
            raise ValueError(
                f"valid={self.valid} and holdout={self.holdout} exclude each other; set only one"
            )
        return self
