"""Check that weights are finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlray.settings.wording import counted


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights with NaN or infinite values, with which a network detects nothing.

    Args:
        tensors: The tensors that a network uses, keyed by name.
        path: Their file, for the message.

    Raises:
        ValueError: A value is not finite.
    """
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise ValueError(
            f"{path} has NaN or infinite values in {counted(len(bad), 'tensor')}, such as "
            f"{bad[0]}: the training that wrote it diverged, or the file is damaged"
        )
