"""The C compiler that torch.compile needs."""

from __future__ import annotations

import os
import shutil


def check_compiler(on_gpu: bool) -> None:
    """Check that torch.compile will find its compiler; it fails in the first step otherwise.

    Args:
        on_gpu: Whether the model is on a GPU, for which Triton builds its launchers in C. On the
            CPU, torch builds its kernels in C++.

    Raises:
        ValueError: There is no compiler.
    """
    variable, names = ("CC", ("gcc", "clang", "cc")) if on_gpu else ("CXX", ("g++", "clang++"))
    if not any(map(shutil.which, filter(None, (os.environ.get(variable), *names)))):
        raise ValueError(
            f"--model.compile needs a compiler, but neither {variable} nor PATH names one "
            f"({', '.join(names)}); install one on every node, or remove --model.compile"
        )
