"""What every measurement prints: the machine, the versions, the command, and one table."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path


def print_header(title: str, command: Sequence[str]) -> None:
    """Print what was measured, and on what."""
    versions = ", ".join(map(_version, ("ray", "torch", "transformers", "pyarrow")))
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n== {title}")
    print(
        f"   {datetime.now():%Y-%m-%d %H:%M}, {os.cpu_count()} cores ({_processor()}), "
        f"{_memory() / 2**30:.0f} GiB, load {load}"
    )
    print(f"   {platform.system()}, Python {platform.python_version()}, {versions}")
    print(f"   {shlex.join(command)}", flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below their columns' names, numbers to the right."""
    cells = [list(columns), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [not isinstance(value, str) for value in rows[0]] if rows else [False] * len(columns)
    for line in cells:
        aligned = zip(line, widths, right, strict=True)
        print("  ".join(f"{text:>{n}}" if end else f"{text:<{n}}" for text, n, end in aligned))
    print(flush=True)


def verdict(value: float, limit: float, *, at_least: bool = False) -> str:
    """Say whether a target is met, with both numbers."""
    met = value >= limit if at_least else value <= limit
    return f"{'met' if met else 'MISSED'} ({'>=' if at_least else '<='} {limit:g})"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"no {package}"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    """Give the processor's name where the system tells it."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
