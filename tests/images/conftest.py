"""Lets these tests import ``encoded``, which makes image files."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
