"""Provenance of regions, and checks that a model gets regions like those it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vlray.regions.schema import Provenance
from vlray.storage.files import parent

if TYPE_CHECKING:
    from vlray.regions.store import RegionStore

log = logging.getLogger("vlray.regions")

_PAIRS = (("min_boxes", "max_boxes"), ("min_size", "max_size"))
# Settings that do not change the regions, or whose effect is compared by another entry.
_NO_MATTER = {
    "output.dtype",  # only rounding; feature_dtype is compared
    "output.compression",
    "output.shard_size",
    "images.max_pixels",
    "convert.images",
    "convert.split",
    "convert.strict",
    "convert.trust_pickle",
    "convert.id_rule",
    "images.id_rule",
    "detector.weights",  # a path; weights_sha256 identifies the content
}


def provenance_of(store: RegionStore) -> Provenance:
    """Collect the provenance of a store's regions, to be saved with a checkpoint or a corpus.

    Returns:
        ``detector`` (preset or imported file), ``format``, ``source_sha256``, ``weights_sha256``,
        ``config_sha256``, ``labels_sha256``, ``feature_dim``, ``feature_dtype``, ``settings`` and
        ``conventions``, all in plain types. Unknown entries are omitted.
    """
    about = store.provenance
    detector, settings = about.get("detector", {}), dict(about.get("settings", {}))
    entries = {
        "detector": about.get("detector_name") or detector.get("name"),
        "format": detector.get("format"),  # only imported outputs have one
        "source_sha256": detector.get("source_sha256") or detector.get("sha256"),
        "config_sha256": detector.get("config_sha256"),
        "weights_sha256": about.get("weights_sha256") or detector.get("weights_sha256"),
        "labels_sha256": about.get("labels_sha256") or settings.pop("convert.labels_sha256", None),
        "feature_dim": store.feature_dim,
        "feature_dtype": str(store.feature_dtype),
        "settings": {name: settings[name] for name in sorted(settings.keys() - _NO_MATTER)},
        "conventions": dict(about.get("conventions", {})),
    }
    return {name: value for name, value in entries.items() if value not in (None, "", {})}


def differences(trained_on: Provenance, current: Provenance) -> list[str]:
    """List the differences between the current regions and those that a model was trained on.

    Two imported outputs are compared by source file and format instead of by detector. An imported
    and an extracted output are compared only by feature length and label names, since nothing else
    is recorded for both.

    Args:
        trained_on: Saved result of `provenance_of`.
        current: Result of `provenance_of` for the current regions.

    Returns:
        One line per difference, most important first. Storage precision is not compared.
    """
    lines = []
    # Imported outputs have a format; extracted ones have a detector with weights.
    imported = "format" in trained_on, "format" in current
    names = ["feature_dim", "labels_sha256"]
    if imported == (False, False):
        names = ["detector", "source_sha256", "config_sha256", "weights_sha256", *names]
    elif imported == (True, True):
        names = ["format", "source_sha256", *names]
    else:
        lines.append(
            f"provenance: {_describe(trained_on)} before, {_describe(current)} now; it is not "
            "recorded whether both come from the same detector"
        )
    for name in names:
        expected, actual = trained_on.get(name), current.get(name)
        # An entry that is unknown on one side is not a difference.
        if expected != actual and None not in (expected, actual):
            lines.append(_line(_NAMES.get(name, name), _short(expected), _short(actual)))
    if imported[0] == imported[1]:
        for group in ("settings", "conventions"):
            lines += _settings(trained_on.get(group, {}), current.get(group, {}))
    return list(dict.fromkeys(lines))


def warn_of_differences(
    trained_on: Provenance, store: RegionStore, trained: str = "the checkpoint"
) -> list[str]:
    """Log one warning if the current regions differ from those that a model was trained on.

    Args:
        trained_on: Saved result of `provenance_of`.
        store: The current regions.
        trained: What was trained on or prepared with the earlier regions, for the message:
            ``checkpoint runs/vqa/best``, ``corpus vqa-all``.

    Returns:
        The lines from `differences`.
    """
    current = provenance_of(store)
    lines = differences(trained_on, current)
    if lines:
        log.warning(
            "%s was made with regions that differ from those in %s (%s):\n%s\nThe results may be "
            "much worse than reported; extract the regions with the same settings, or train "
            "again.",
            trained,
            parent(store.output.rstrip("/"))[1] or store.output,
            store.output,
            "\n".join(f"  {line}" for line in lines),
        )
    elif trained_on.get("feature_dtype") != current["feature_dtype"]:
        log.info(
            "%s was made with regions stored as %s, but %s stores them as %s; they differ only "
            "by rounding",
            trained,
            trained_on.get("feature_dtype"),
            store.output,
            current["feature_dtype"],
        )
    return lines


_NAMES = {
    "weights_sha256": "weights",
    "labels_sha256": "label names",
    "config_sha256": "the detector's config.yaml",
    "source_sha256": "source file",
}


def _settings(expected: Mapping[str, object], actual: Mapping[str, object]) -> list[str]:
    """Compare settings by the last part of their names, with one line for a pair of limits.

    A setting that is missing on one side is skipped: it belongs to another version of vlray, or
    does not apply there.
    """
    old, new = (
        {name.rpartition(".")[2]: value for name, value in values.items()}
        for values in (expected, actual)
    )
    both = old.keys() & new.keys()
    lines = []
    for pair in _PAIRS:
        if both.issuperset(pair):
            before, now = ("/".join(str(values[name]) for name in pair) for values in (old, new))
            if before != now:
                lines.append(_line("/".join(pair), before, now))
            both -= set(pair)
    lines += [
        _line(name, _short(old[name]), _short(new[name]))
        for name in sorted(both - {"name"})  # the detector's name is compared above
        if old[name] != new[name]
    ]
    return lines


def _line(name: str, expected: object, actual: object) -> str:
    return f"{name}: {expected} before, {actual} now"


def _short(value: object) -> str:
    """Shorten a digest to 12 characters; convert other values to strings unchanged."""
    text = str(value)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_digest else text


def _describe(provenance: Provenance) -> str:
    if "format" in provenance:
        return f"imported from {provenance.get('detector')} ({provenance['format']})"
    return f"extracted with {provenance.get('detector')}"
