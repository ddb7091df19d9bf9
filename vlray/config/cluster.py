"""Options of the Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vlray.settings.section import Section


class ClusterSection(Section):
    """What to take of a Ray cluster or of this machine."""

    address: str = ""
    """Of a running cluster; ``local`` starts one here. Empty: a running cluster where there is
    one, else local."""

    actors: Annotated[int, Field(ge=0)] = 0
    """Detectors at work at the same time. 0: as many as fit."""

    gpus_per_actor: Annotated[float, Field(ge=-1)] = -1
    """GPUs of each detector; a fraction shares one. -1: 1 where the cluster has GPUs, else 0."""

    cpus_per_actor: Annotated[float, Field(ge=0)] = 0
    """CPUs of each detector. 0: 1, or what is left where every CPU or GPU has one."""

    threads_per_actor: Annotated[int, Field(ge=0)] = 0
    """Threads that a detector computes with. 0: ``cpus_per_actor``, at least 1."""

    decode_cpus: Annotated[float, Field(ge=0.01)] = 0.5
    """CPUs reserved for each task that reads and decodes images."""

    object_store_gb: Annotated[float, Field(ge=0)] = 0
    """Shared memory of a local cluster, GB. 0: as Ray chooses."""

    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """``auto`` is a bar on a terminal and plain lines elsewhere."""
