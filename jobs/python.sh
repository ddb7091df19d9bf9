#!/usr/bin/env bash
# Python with the packages of docker/requirements.txt, which uv installs on the node:
#
#   UV=1 jobs/extract.sh ...
#
# The first start on a node installs the packages to a folder named by their hash; later starts use
# it. `uv run` is slower, because it checks all packages in each of Ray's processes.
set -euo pipefail

root=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")/..")
folder=${VLRAY_ENVS:-$HOME/.cache/vlray/envs}
key=$({ python --version && cat "$root"/docker/requirements.txt "$root"/pyproject.toml; } | sha256sum)
environment=$folder/${key:0:16}

if [[ ! -e $environment/ready ]]; then
  if ! command -v uv >/dev/null; then
    echo "${0##*/}: uv is not on PATH on $(uname -n); pip install uv there, or submit without UV=1" >&2
    exit 2
  fi
  mkdir -p "$folder"
  (
    flock 9  # other processes of this node wait for the first
    if [[ ! -e $environment/ready ]]; then
      cd "$root"  # because pyproject.toml there configures the build of Detectron2
      uv venv --quiet --clear --python "$(command -v python)" "$environment"
      uv pip install --quiet --python "$environment" -r docker/requirements.txt
      touch "$environment/ready"
    fi
  ) 9>"$environment.lock" >&2
fi
exec "$environment/bin/python" "$@"
