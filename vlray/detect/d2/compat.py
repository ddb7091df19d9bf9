"""Patches that make Detectron2 importable. Import this module before ``detectron2``.

PyPI's ``pb1-detectron2`` is Detectron2's Python source without the compiled extension, and it
predates current versions of Pillow and torch. An installation from the official source is used as
it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any

import PIL.Image
import torch

from vlray.detect.d2 import check_installed


class _MissingExtension(ModuleType):
    """Placeholder for ``detectron2._C`` that raises when a compiled operation is used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system and inspect look some of these up
            raise AttributeError(name)
        raise NotImplementedError(
            f"detectron2._C.{name} is a compiled operation, and this Detectron2 has no compiled "
            "extension (rotated boxes, the fast COCO evaluator); install it from the official "
            "source: "
            "`pip install git+https://github.com/facebookresearch/detectron2`"
        )


class _LazyCompiler(ModuleType):
    """Placeholder for ``torch._dynamo.utils`` that imports the module when it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks some of these up
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

    def is_compile_supported(self, device_type: str) -> bool:
        """Call torch's function, the only name that torchvision imports from the module."""
        return bool(self.__getattr__("is_compile_supported")(device_type))


def import_torchvision() -> None:
    """Import torchvision without torch's compiler, whose import takes as long as that of torch.

    torchvision 0.29 imports the compiler for a function that extraction does not call.
    """
    compiler = _LazyCompiler("torch._dynamo.utils")
    if compiler.__name__ in sys.modules:
        return
    sys.modules[compiler.__name__] = compiler
    try:
        importlib.import_module("torchvision")
    finally:
        if sys.modules.get(compiler.__name__) is compiler:
            del sys.modules[compiler.__name__]


def prepare_detectron2() -> None:
    """Import Detectron2's modules, with the patches that this installation needs.

    Raises:
        ImportError: Detectron2 is not installed.
    """
    check_installed()
    detectron2 = importlib.import_module("detectron2")
    import_torchvision()
    has_extension = "detectron2._C" in sys.modules or importlib.util.find_spec("detectron2._C")
    if not has_extension:
        extension = _MissingExtension("detectron2._C")
        sys.modules["detectron2._C"] = extension
        vars(detectron2)["_C"] = extension  # what `from detectron2 import _C` looks up
    if not hasattr(PIL.Image, "LINEAR"):
        # Removed in Pillow 10; Detectron2 0.6 uses it as a default argument.
        PIL.Image.LINEAR = PIL.Image.Resampling.BILINEAR  # type: ignore[attr-defined] # not in its stubs
    with warnings.catch_warnings():
        # Loading the modules decorates a dozen functions with torch.jit.script, which is
        # deprecated; users of vlray can do nothing about it.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script`")
        importlib.import_module("detectron2.modeling")
        if not has_extension:
            _use_torchvision_deformable()
        # Detectron2's anchor generator calls torch.meshgrid without `indexing`. torch warns about
        # that once per process, so the first call is made here, where the warning is ignored.
        warnings.filterwarnings("ignore", message=r"torch\.meshgrid")
        torch.meshgrid(torch.zeros(1), torch.zeros(1))


def _use_torchvision_deformable() -> None:
    """Replace the compiled deformable convolutions with torchvision's, which compute the same.

    torchvision derives both numbers of groups from the shapes of the weight and the offset.
    Detectron2 itself uses it on CPUs, except for modulated convolutions.
    """
    from torchvision.ops import deform_conv2d

    def deform_conv(
        x: Any, offset: Any, weight: Any, stride: Any, padding: Any, dilation: Any, *_groups: int
    ) -> Any:
        return deform_conv2d(x, offset, weight, None, stride, padding, dilation)

    def modulated_deform_conv(
        x: Any, offset: Any, mask: Any, weight: Any, bias: Any, stride: Any, padding: Any,
        dilation: Any, *_groups: int,
    ) -> Any:  # fmt: skip
        return deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)

    layers = importlib.import_module("detectron2.layers.deform_conv")
    vars(layers).update(deform_conv=deform_conv, modulated_deform_conv=modulated_deform_conv)


prepare_detectron2()
