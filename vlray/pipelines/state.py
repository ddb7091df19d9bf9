"""State of a pipeline: ``state.json``, rewritten whenever a step starts or ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from vlray.storage import files

NAME = "state.json"
VERSION = 1

Status = Literal["running", "finished", "failed", "stopped"]


@dataclass(frozen=True)
class Record:
    """Record of the last run of a step.

    Attributes:
        status: How the run ended; ``running`` although no pipeline is running: it was interrupted.
        settings: Non-default settings that affect the result, keyed by dotted name.
        inputs: Fingerprints of the inputs, keyed by path as spelled in the settings.
        version: Version of vlray.
        started: Start time, in seconds since 1970.
        seconds: Duration in seconds.
        output: Output folder or URI; empty: none.
        run: Run folder; empty: none was found.
        result: Summary of the result in one line.
    """

    status: Status
    settings: dict[str, object]
    inputs: dict[str, str]
    version: str
    started: float
    seconds: float = 0.0
    output: str = ""
    run: str = ""
    result: str = ""


@dataclass
class State:
    """Records of all steps, stored in a file.

    Attributes:
        folder: Folder of the file.
        records: Record of each step's last run, keyed by step name.
    """

    folder: Path
    records: dict[str, Record] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> State:
        """Load the state of a pipeline; if there is no file, there are no records.

        Raises:
            ValueError: The file is not the state of a pipeline.
        """
        path = folder / NAME
        if not path.is_file():
            return cls(folder)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["version"] != VERSION:
                # Raised here, to get the same advice as a file that cannot be parsed.
                raise ValueError(f"version must be {VERSION}, but is {values['version']!r}")
            records = {name: Record(**one) for name, one in values["steps"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a valid pipeline state ({type(error).__name__}: {error}); delete "
                "it to run every step again (steps resume from their outputs), or choose another "
                "--output"
            ) from error
        return cls(folder, records)

    def record(self, name: str, record: Record) -> None:
        """Store the record of a step and rewrite the file."""
        self.records[name] = record
        steps = {step: asdict(one) for step, one in self.records.items()}
        data = json.dumps({"version": VERSION, "steps": steps}, indent=1).encode()
        files.write_atomic(*files.resolve(self.folder / NAME), data)
