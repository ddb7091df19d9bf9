"""``vlray doctor``: check the installation, and install what is missing."""

from __future__ import annotations

from vlray.config.doctor import DoctorConfig
from vlray.installation import detectron2
from vlray.installation.checks import Check, run_checks
from vlray.runs.session import Failed
from vlray.settings import secrets


def run(config: DoctorConfig) -> None:
    """Print one line per check, and how to fix each problem.

    Raises:
        Failed: There is a problem, or the fix failed.
    """
    # First, so that nothing of what is replaced has been imported yet.
    if config.fix and not detectron2.is_complete():
        detectron2.install()
    checks = run_checks(config)
    secrets.show("\n".join(line for check in checks for line in lines_of(check)))
    problems = [check.name for check in checks if check.state == "problem"]
    if problems:
        raise Failed(f"fix {', '.join(problems)}, as the lines above say")


def lines_of(check: Check) -> list[str]:
    """Format a check: its state, its name, what was found, and on a second line the way out."""
    lines = [f"{check.state:7}  {check.name:11}  {check.detail}"]
    if check.remedy:
        lines.append(f"{'':22}-> {check.remedy}")
    return lines
