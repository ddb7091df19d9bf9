"""``lite``: the detector that ships with the package, for first runs, tests and small studies."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("lite.safetensors")
"""Path to the shipped weights."""
