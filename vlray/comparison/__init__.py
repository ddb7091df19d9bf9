"""Compare two region outputs for the same images, box by box."""

from vlray.comparison.result import Comparison
from vlray.comparison.run import compare
from vlray.comparison.table import table

__all__ = ["Comparison", "compare", "table"]
