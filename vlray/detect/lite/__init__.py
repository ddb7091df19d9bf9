"""``lite``, the detector inside the package, for a first run, tests and small studies."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("lite.safetensors")
"""The shipped weights."""
