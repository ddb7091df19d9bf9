"""Make Detectron2 importable from either of its two sources. Import this before ``detectron2``.

PyPI's ``pb1-detectron2`` is Detectron2's Python source without its compiled part, and older than
today's Pillow and torch. The official source needs none of this and is used as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

import PIL.Image
import torch

_MISSING = (
    "Detectron2 is not installed; install it with `uv pip install 'vlray[detectron2]'` (no "
    "compiler needed) or from its official source, "
    "`pip install git+https://github.com/facebookresearch/detectron2`"
)


class _MissingExtension(ModuleType):
    """Stands in for ``detectron2._C``; says what is missing once a compiled operation is used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system and inspect ask for some of these
            raise AttributeError(name)
        raise NotImplementedError(
            f"detectron2._C.{name} is a compiled operation, and this Detectron2 has no compiled "
            "part (rotated boxes, deformable convolutions, the fast COCO evaluator); install "
            "the official source: "
            "`pip install git+https://github.com/facebookresearch/detectron2`"
        )


def prepare_detectron2() -> None:
    """Put right what Detectron2 lacks here; does nothing more where it is complete.

    Raises:
        ImportError: Detectron2 is not installed from either source.
    """
    if importlib.util.find_spec("detectron2") is None:
        raise ImportError(_MISSING, name="detectron2")
    detectron2 = importlib.import_module("detectron2")
    has_extension = "detectron2._C" in sys.modules or importlib.util.find_spec("detectron2._C")
    if not has_extension:
        extension = _MissingExtension("detectron2._C")
        sys.modules["detectron2._C"] = extension
        vars(detectron2)["_C"] = extension  # what `from detectron2 import _C` looks up
    if not hasattr(PIL.Image, "LINEAR"):
        # Gone since Pillow 10; Detectron2 0.6 has it as the default of an argument.
        PIL.Image.LINEAR = PIL.Image.Resampling.BILINEAR  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # A dozen functions are decorated with torch.jit.script as the modules load; whoever uses
        # vlray can do nothing about it.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script`")
        importlib.import_module("detectron2.modeling")
        # Its anchors call torch.meshgrid without `indexing`. torch warns of that once in a
        # process: here, where nobody sees it.
        warnings.filterwarnings("ignore", message=r"torch\.meshgrid")
        torch.meshgrid(torch.zeros(1), torch.zeros(1))


prepare_detectron2()
