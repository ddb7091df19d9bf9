"""What a pipeline has done: ``state.json``, written anew whenever a step begins or ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlray.storage import files

NAME = "state.json"
VERSION = 1

Status = Literal["running", "finished", "failed", "stopped"]


@dataclass(frozen=True)
class Record:
    """The last time that a step was run.

    Attributes:
        status: How it ended; ``running`` of one whose pipeline is gone: it was interrupted.
        settings: Those that are not the defaults, by their dotted names.
        inputs: Fingerprints of what it read, by place as the settings spell it.
        version: Of vlray.
        started: Seconds since 1970.
        seconds: How long it took.
        output: Where it wrote; empty: nowhere.
        run: Its run folder; empty: none was found.
        result: What came out, in a line.
    """

    status: Status
    settings: dict[str, Any]
    inputs: dict[str, str]
    version: str
    started: float
    seconds: float = 0.0
    output: str = ""
    run: str = ""
    result: str = ""


@dataclass
class State:
    """The records of all steps, kept in a file.

    Attributes:
        folder: Of the file.
        records: By the names of the steps.
    """

    folder: Path
    records: dict[str, Record] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> State:
        """Read what was done; nothing where there is no file.

        Raises:
            ValueError: The file is none of a pipeline's.
        """
        path = folder / NAME
        if not path.is_file():
            return cls(folder)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["version"] != VERSION:
                raise ValueError(f"it is of version {values['version']!r}, not {VERSION}")
            records = {name: Record(**one) for name, one in values["steps"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} is no state of a pipeline ({type(error).__name__}: {error}); delete it to "
                "run every step again (each goes on from what is there), or give another --output"
            ) from error
        return cls(folder, records)

    def keep(self, name: str, record: Record) -> None:
        """Take in how a step is, and write the file whole."""
        self.records[name] = record
        steps = {step: asdict(one) for step, one in self.records.items()}
        data = json.dumps({"version": VERSION, "steps": steps}, indent=1).encode()
        files.write_atomic(*files.resolve(self.folder / NAME), data)
