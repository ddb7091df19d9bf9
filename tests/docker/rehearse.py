"""Replay a Dockerfile's steps without Docker, each stage in a root folder of its own; by hand.

``python -m tests.docker.rehearse docker/Dockerfile --base ROOT --work FOLDER [-- COMMAND ...]``

ROOT stands for the base image: a folder that ``debootstrap`` made, with a Python in /usr/local.
RUN runs in it by chroot, so this needs root; COPY, ENV, WORKDIR and USER do what they say. What a
real build adds is the base image itself, layers, and the container's limits.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """A stage's root folder, and what its steps so far have set."""

    root: Path
    folder: str = "/"
    user: int = 0
    variables: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )

    def run(self, command: list[str]) -> None:
        """Run it in the root folder, as the stage's user, and end with it where it fails."""
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        home = "/home/vlray" if self.user else "/root"
        rooted = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root)]
        subprocess.run(
            [*rooted, "env", "-C", self.folder, *command],
            env=passed | {"HOME": home} | self.variables,
            check=True,
        )

    def copy(self, arguments: list[str], stages: dict[str, Stage]) -> None:
        """Copy from the checkout or from another stage."""
        source = ROOT
        if arguments[0].startswith("--from="):
            source = stages[arguments.pop(0).removeprefix("--from=")].root
        *names, place = arguments
        target = self.root / str(Path(self.folder, place)).lstrip("/")
        for name in names:
            one = source / name.lstrip("/")
            into = target / one.name if place.endswith("/") else target
            if one.is_dir():
                ignored = shutil.ignore_patterns("__pycache__") if source == ROOT else None
                shutil.copytree(one, target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(one, into)


PASSED = ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "SSL_CERT_FILE")


def steps_of(dockerfile: Path) -> list[tuple[str, str]]:
    """List the instructions and what follows each, lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def expand(text: str, variables: dict[str, str]) -> str:
    """Put values in the place of variables, as ENV does."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], ""), text)


def replay(dockerfile: Path, base: Path, work: Path, before_run: str) -> Stage:
    """Do all steps; give the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for what, rest in steps_of(dockerfile):
        print(f"--- {what} {rest}", flush=True)
        began = time.monotonic()
        if what == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "last"
            subprocess.run(["cp", "-a", base, work / name], check=True)  # devices, too
            stage = stages[name] = Stage(work / name)
        elif what == "ENV":
            for word in shlex.split(rest):
                key, value = word.split("=", 1)
                stage.variables[key] = expand(value, stage.variables)
        elif what == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif what == "COPY":
            stage.copy(shlex.split(rest), stages)
        elif what == "USER":
            stage.user = int(rest)
        elif what == "RUN":
            stage.run(["sh", "-c", f"{before_run}{rest}"])
        print(f"    {time.monotonic() - began:.1f} s", flush=True)
    return stage


def main() -> None:
    """Read the options, replay, and run the command in the last stage."""
    parser = argparse.ArgumentParser(description="Replay a Dockerfile's steps without Docker.")
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="root folder of the base image")
    parser.add_argument("--work", type=Path, required=True, help="new folder for the stages")
    parser.add_argument("--before-run", default="", help="shell text before each RUN's own")
    parser.add_argument("command", nargs="*", help="to run in the last stage at the end")
    args = parser.parse_args()
    last = replay(args.dockerfile, args.base, args.work, args.before_run)
    if args.command:
        last.run(args.command)


if __name__ == "__main__":
    main()
