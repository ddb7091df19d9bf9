"""Settings of ``vlray doctor``."""

from __future__ import annotations

from typing import ClassVar

from vlray.config.data import DataSection
from vlray.settings.base import Command


class DoctorConfig(Command):
    """Check the installation, and install Detectron2 where it is missing."""

    command: ClassVar[str] = "doctor"
    examples: ClassVar[tuple[str, ...]] = ("", "--fix")
    common: ClassVar[tuple[str, ...]] = ("fix",)
    notes: ClassVar[str] = """\
states of a check:
  ok       Nothing to do.
  note     vlray works, but you may want to know this, such as a running Ray cluster.
  problem  Some commands fail until this is fixed; the line below says how.

exit status: 0 if there is no problem, else 1.

Detectron2:
  Detectors need Detectron2, for which package indexes have no build. --fix builds its Python
  source, the package pb1-detectron2, and installs it into the environment of this vlray. That
  takes seconds and needs no compiler, but a package index. An installed official build is kept."""

    fix: bool = False
    """Install Detectron2 and the packages that it needs, if they are missing; then check."""

    data: DataSection = DataSection()
