"""Fuzz the readers and the command lines.

    python -m tests.fuzz                        3,000 damaged inputs and 2,000 command lines
    python -m tests.fuzz --mutations 300 --command-lines 0 --seed 7

Each case runs in a forked child with 4 GiB of memory and 60 s. A case is bad if the child crashes,
hangs, runs out of memory, prints a traceback, or fails with an exception that the input caused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.campaign import Campaign, rows


def main() -> None:
    """Run a campaign, print its table, and end with 1 if there are bad cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", type=int, default=3_000)
    parser.add_argument("--command-lines", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    args = parser.parse_args()
    campaign = Campaign(args.seed, args.findings.absolute())
    campaign.mutations(args.mutations)
    campaign.command_lines(args.command_lines)
    for name, total, ends in rows(campaign):
        print(f"{name:20} {total:5}  {ends}")
    print(f"\n{len(campaign.bad)} bad cases; the slowest took {campaign.slowest:.1f} s")
    for text in campaign.bad:
        print(f"\n{text}")
    sys.exit(bool(campaign.bad))


if __name__ == "__main__":
    main()
