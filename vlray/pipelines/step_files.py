"""What a pipeline's file says that is lost once it is read as settings: names given twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path


def check_files(paths: Sequence[Path]) -> Iterator[str]:
    """Say of each file what is wrong with the names of its steps.

    Args:
        paths: YAML files of mappings.
    """
    import yaml

    for path in paths:
        if not path.is_file():  # settings that were built in Python, somewhere else
            continue
        top = yaml.compose(path.read_text(encoding="utf-8"))
        if not isinstance(top, yaml.MappingNode):
            continue
        steps = [value for key, value in top.value if key.value == "steps"]
        if len(steps) > 1:
            yield f"{path} has steps twice (line {steps[1].start_mark.line + 1}); put them together"
        for node in steps:
            if isinstance(node, yaml.MappingNode):
                yield from _check_steps(path, node.value)


def _check_steps(path: Path, entries: Sequence[tuple[object, object]]) -> Iterator[str]:
    import yaml

    seen = set()
    for key, value in entries:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name = key.value
        line = key.start_mark.line + 1
        if name in seen:
            yield f"{path} has two steps named {name} (line {line}); give one another name"
        seen.add(name)
        if isinstance(value, yaml.MappingNode) and not value.value:
            yield f"step {name} of {path} is empty (line {line}); give its command and settings"
