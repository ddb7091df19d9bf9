"""What jobs/slurm.sh asks of Slurm and Ray, with stand-ins for both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "jobs" / "slurm.sh"

# Each leaves a note of its arguments; a step with Ray lasts until it is ended.
STANDINS = {
    "scontrol": "printf '%s\\n' one two",
    "srun": '[[ " $* " != *" ray "* ]] || exec sleep 60',
    "python": """[[ $1 != -c ]] || echo 10.0.0.1
[[ $1 != - ]] || until [[ $(grep -l " ray " "$NOTES"/srun.* 2>/dev/null | wc -l) = 2 ]]; do
  sleep 0.05
done""",
}


@pytest.mark.usefixtures("processes")
def test_a_step_of_slurm_gets_the_whole_node_and_ports_of_its_own(tmp_path: Path) -> None:
    tools, notes = tmp_path / ".venv" / "bin", tmp_path / "notes"
    tools.mkdir(parents=True)
    notes.mkdir()
    for name, body in STANDINS.items():
        (tools / name).write_text(f'#!/bin/bash\necho {name} "$*" >"$NOTES/{name}.$$"\n{body}\n')
        (tools / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "[one-two]", "NOTES": str(notes)}
    variables["SLURM_SUBMIT_DIR"] = str(tmp_path)
    command = ["bash", str(SCRIPT), "extract", "/photos", "/out"]
    subprocess.run(command, env=os.environ | variables, check=True)

    called = [path.read_text().split() for path in notes.iterdir()]
    assert ["python", "-m", "vlray.extract", "/photos", "/out"] in called
    steps = [step for step in called if "ray" in step]
    assert len(steps) == 2
    for step in steps:
        assert {"--overlap", "--cpu-bind=none", "--mem=0"} <= set(step[: step.index("ray")])
    (head,) = [step for step in steps if "--head" in step]
    ports = sorted(int(part.split("=")[1]) for part in head if "port=" in part)
    assert ports == [20000 + 345 * 4 + offset for offset in range(3)]
    assert ports[-1] < 32768  # Linux hands out higher ones
    assert "#SBATCH --mem=0\n" in SCRIPT.read_text()
