"""What made regions, and in what two of them differ: a model knows only those it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlray.storage.files import parent

if TYPE_CHECKING:
    from vlray.regions.store import RegionStore

log = logging.getLogger("vlray.regions")

_PAIRS = (("min_boxes", "max_boxes"), ("min_size", "max_size"))
_NO_MATTER = {
    "output.dtype",  # rounding alone: told by feature_dtype
    "output.compression",
    "output.shard_size",
    "images.max_pixels",
    "convert.images",
    "convert.split",
    "convert.strict",
    "convert.trust_pickle",
    "convert.id_rule",
    "images.id_rule",
    "detector.weights",  # a path; weights_sha256 is what is in it
}


def provenance_of(store: RegionStore) -> dict[str, Any]:
    """Collect what made the regions of a store, in plain types, for a checkpoint or a corpus.

    Returns:
        ``detector`` (its preset, or the file that was imported), ``weights_sha256``,
        ``labels_sha256``, ``feature_dim``, ``feature_dtype``, ``settings`` and ``conventions``;
        what is not known is missing.
    """
    about = store.provenance
    detector, settings = about.get("detector", {}), dict(about.get("settings", {}))
    known = {
        "detector": about.get("detector_name") or detector.get("name"),
        "format": detector.get("format"),  # of what was imported
        "source_sha256": detector.get("source_sha256") or detector.get("sha256"),
        "config_sha256": detector.get("config_sha256"),
        "weights_sha256": about.get("weights_sha256") or detector.get("weights_sha256"),
        "labels_sha256": about.get("labels_sha256") or settings.pop("convert.labels_sha256", None),
        "feature_dim": store.feature_dim,
        "feature_dtype": str(store.feature_dtype),
        "settings": {name: settings[name] for name in sorted(settings.keys() - _NO_MATTER)},
        "conventions": dict(about.get("conventions", {})),
    }
    return {name: value for name, value in known.items() if value not in (None, "", {})}


def differences(trained_on: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Name what makes given regions others than those a model was trained on.

    Two imported outputs are compared by what their files are; an imported one and an extracted
    one by their vectors' length and their labels alone, since nothing else is known of both.

    Args:
        trained_on: From `provenance_of`, as it was kept.
        given: The same of the regions that are there now.

    Returns:
        A line for each difference, the weightiest first; empty where a model cannot tell them
        apart, and where they are stored in two precisions only.
    """
    lines = []
    imported = "format" in trained_on, "format" in given
    names = ["feature_dim", "labels_sha256"]
    if imported == (False, False):
        names = ["detector", "source_sha256", "config_sha256", "weights_sha256", *names]
    elif imported == (True, True):
        names = ["format", "source_sha256", *names]
    else:
        lines.append(
            f"origin: {_origin(trained_on)} there, {_origin(given)} here; whether the same "
            "detector made both is not recorded"
        )
    for name in names:
        there, here = trained_on.get(name), given.get(name)
        if there != here and None not in (there, here):
            lines.append(_line(_NAMES.get(name, name), _short(there), _short(here)))
    if imported[0] == imported[1]:
        for group in ("settings", "conventions"):
            lines += _settings(trained_on.get(group, {}), given.get(group, {}))
    return list(dict.fromkeys(lines))


def warn_of_differences(
    trained_on: Mapping[str, Any], store: RegionStore, trained: str = "the checkpoint"
) -> list[str]:
    """Log one warning if a store's regions are others than a model was trained on.

    Args:
        trained_on: From `provenance_of`, as it was kept.
        store: The regions that are given now.
        trained: What it was kept with: ``checkpoint runs/vqa/best``, ``corpus vqa-all``.

    Returns:
        The differences that were named.
    """
    given = provenance_of(store)
    found = differences(trained_on, given)
    if found:
        log.warning(
            "%s was made with other regions than %s (%s):\n%s\nIts results may be far from what "
            "was measured; extract the regions as they were, or train again.",
            trained,
            parent(store.output.rstrip("/"))[1] or store.output,
            store.output,
            "\n".join(f"  {line}" for line in found),
        )
    elif trained_on.get("feature_dtype") != given["feature_dtype"]:
        log.info(
            "%s was made with regions in %s, and those of %s are in %s; that is rounding alone",
            trained,
            trained_on.get("feature_dtype"),
            store.output,
            given["feature_dtype"],
        )
    return found


_NAMES = {
    "weights_sha256": "weights",
    "labels_sha256": "names of the labels",
    "config_sha256": "Detectron2's config",
    "source_sha256": "source file",
}


def _settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Compare settings by their last name; a pair of limits is told as one.

    A setting that one side lacks is of another version, or has no meaning there.
    """
    old, new = (
        {name.rpartition(".")[2]: value for name, value in values.items()}
        for values in (there, here)
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
        for name in sorted(both - {"name"})  # of the detector, which has been told
        if old[name] != new[name]
    ]
    return lines


def _line(name: str, there: object, here: object) -> str:
    return f"{name}: {there} there, {here} here"


def _short(value: object) -> str:
    """Shorten a digest to what people compare."""
    text = str(value)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_digest else text


def _origin(provenance: Mapping[str, Any]) -> str:
    if "format" in provenance:
        return f"imported from {provenance.get('detector')} ({provenance['format']})"
    return f"extracted with {provenance.get('detector')}"
