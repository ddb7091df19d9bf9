"""Options of the Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vlray.settings.labels import check_selector
from vlray.settings.section import Section


def _check_gpus(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"{gpus:g} GPUs: Ray assigns a fraction of one GPU (0.5) or whole GPUs (2), nothing in "
            "between"
        )
    return gpus


Gpus = Annotated[float, Field(ge=-1), AfterValidator(_check_gpus)]
"""GPUs of an actor or a trial; -1: automatic."""


class ClusterSection(Section):
    """Resources of the Ray cluster, or of this machine."""

    address: str = ""
    """Address of a running Ray cluster; ``local`` starts one on this machine, ``none`` runs in this
    process without Ray. Empty: ``RAY_ADDRESS``, else a cluster that runs on this machine, else
    ``none`` for a few images and ``local`` for more."""

    actors: Annotated[int, Field(ge=0)] = 0
    """Number of detectors that run in parallel, each in a Ray actor. 0: as many as fit."""

    wait: Annotated[float, Field(ge=-1)] = -1
    """Seconds to wait for the first node with room for a detector, on a cluster that starts nodes
    on demand: vlray requests nodes for all ``actors``, begins on those that are up, and uses the
    others as they join. 0: use only the nodes that are up. -1: 1800 on a cluster that KubeRay or
    Ray's cluster launcher has started, else 0."""

    label_selector: Annotated[dict[str, str], AfterValidator(check_selector)] = {}  # noqa: RUF012 - pydantic copies it
    """Labels of the nodes to use, such as ``ray.io/accelerator-type=H100``; values may be
    ``!VALUE``, ``in(A,B)`` or ``!in(A,B)``."""

    gpus_per_actor: Gpus = -1
    """GPUs per detector; with a fraction, detectors share a GPU. -1: 1 if the cluster has GPUs,
    else 0."""

    cpus_per_actor: Annotated[float, Field(ge=0)] = 0
    """CPUs per detector, which also decode its images. 0: 1 without GPUs; with GPUs up to 4, or
    less so that every GPU can have a detector."""

    threads_per_actor: Annotated[int, Field(ge=0)] = 0
    """Compute threads per detector. 0: ``cpus_per_actor`` rounded down, at least 1; with GPUs 1."""

    decode_cpus: Annotated[float, Field(ge=0)] = 0
    """Has no effect, and will be removed: detectors decode their own images."""

    image_timeout: Annotated[float, Field(gt=0)] = 600
    """Time limit in seconds for decoding an image, and for detecting in it; the limit of a batch is
    the sum over its images. An image that exceeds it, or crashes the decoder or the detector, is
    tried twice in Ray's processes and once in a process of its own, and then becomes a failure."""

    image_memory_gb: Annotated[float, Field(ge=0)] = 0
    """Memory limit for an image in a process of its own, GiB. 0: half of the free memory."""

    object_store_gb: Annotated[float, Field(ge=0)] = 0
    """Ray's object store (shared memory) of a local cluster, in GiB. 0: Ray's default."""

    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """Progress display. ``auto``: a bar on a terminal, log lines elsewhere."""
