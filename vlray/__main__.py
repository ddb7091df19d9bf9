"""``python -m vlray``, which is the same as ``vlray``."""

from vlray.cli import main

main()
