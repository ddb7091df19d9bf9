"""Summarize an import: images, failures and flags."""

from __future__ import annotations

import shlex
from collections import Counter

from vlray.formats.flags import DOUBTS, MEANINGS
from vlray.formats.importing import ImportResult
from vlray.regions import parts
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.storage.damage import open_parquet

EXAMPLES = 3


def report(result: ImportResult) -> list[str]:
    """Return the summary of an import as lines for the log."""
    flags = flag_lines(result.output)
    if not result.done:
        return [
            f"nothing to do: all images ({result.existing:,}) are already in {result.output}",
            *flags,
        ]
    # A small import can take 0 seconds on a coarse clock.
    rate = result.done / max(result.seconds, 1e-9)
    lines = [
        f"{counted(result.images, 'image')}, {counted(result.regions, 'region')}, "
        f"{result.bytes / 1e6:,.2f} MB in {result.seconds:.1f} s ({rate:,.1f} images/s)"
    ]
    if result.is_redone:
        lines.append("the source has changed, so all images were imported again")
    if result.existing:
        lines.append(f"already imported by earlier runs: {counted(result.existing, 'image')}")
    if result.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.reasons.most_common())
        lines.append(
            f"{counted(result.failed, 'image')} failed ({kinds}); the first: "
            f"{result.first_failure}. failures/ in {result.output} lists all of them with reasons"
        )
    lines += flags
    if result.images:
        lines.append(f"to view the regions: vlray view {shlex.quote(result.output)}")
    return lines


def flag_lines(output: str) -> list[str]:
    """Summarize the flags in an output: counts and examples; an empty list if there are none."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    fs, root = files.resolve(output)
    folder = files.join(root, parts.FLAGS)
    # Earlier runs that were resumed are included.
    for name in files.list_names(fs, folder):
        with open_parquet(fs, files.join(folder, name), "remove it; it only lists doubts") as part:
            rows = part.read().to_pylist()
        for row in rows:
            counts[row["flag"]] += 1
            samples = examples.setdefault(row["flag"], [])
            if len(samples) < EXAMPLES:
                samples.append(
                    f"{row['image_id']} ({row['detail']})" if row["detail"] else row["image_id"]
                )
    if not counts:
        return []
    lines = [f"flags (flags/ in {output} lists them by image):"]
    # Doubtful rows first, then by frequency.
    for flag, count in sorted(counts.items(), key=lambda item: (item[0] not in DOUBTS, -item[1])):
        about = MEANINGS.get(flag, "")
        lines.append(
            f"  {flag}: {counted(count, 'image')}{': ' if about else ''}{about}; e.g. "
            + ", ".join(examples[flag])
        )
    return lines
