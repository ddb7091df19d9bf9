"""``python -m vlray`` is ``vlray``."""

from vlray.cli import main

main()
