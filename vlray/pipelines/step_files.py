"""Checks on the YAML source of pipeline files: repeated names are lost when it is parsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path


def check_files(paths: Sequence[Path]) -> Iterator[str]:
    """Report repeated step names, repeated ``steps`` and empty steps.

    Args:
        paths: The YAML files of the pipeline.
    """
    import yaml

    for path in paths:
        if not path.is_file():  # settings built in Python, on another machine
            continue
        top = yaml.compose(path.read_text(encoding="utf-8"))
        if not isinstance(top, yaml.MappingNode):
            continue
        steps = [value for key, value in top.value if key.value == "steps"]
        if len(steps) > 1:
            line = steps[1].start_mark.line + 1
            yield f"{path} has a second key 'steps' (line {line}); merge the two"
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
            yield f"{path} has two steps named {name} (line {line}); rename one of them"
        seen.add(name)
        if isinstance(value, yaml.MappingNode) and not value.value:
            yield f"step {name} in {path} is empty (line {line}); add its command and settings"
