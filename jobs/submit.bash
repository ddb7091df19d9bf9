# shellcheck shell=bash
# Functions that the scripts of this folder share by sourcing this file. A script may add options of
# `ray job submit` to `job_options`.

: "${RAY_ADDRESS:=http://127.0.0.1:8265}"  # address of the dashboard, not of the cluster itself
: "${RUNS_DIR:=$PWD/runs}"                 # on the head node: settings and log of the job
: "${PYTHON:=python}"                      # on the head node; default: the Python that runs Ray
: "${UV:=0}"                               # 1: install packages with uv (jobs/python.sh)

root=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")/..")
PATH=$root/.venv/bin:$PATH
export RAY_ADDRESS PATH
job_options=()

# usage ARGUMENTS: print the usage of the script, and exit.
usage() {
  echo "usage: ${0##*/} $1" >&2
  exit 2
}

# absolute PATH: print PATH as an absolute one, because a job runs in another folder.
absolute() {
  case $1 in
    *://*) printf '%s' "$1" ;;
    *) realpath -m -- "$1" ;;
  esac
}

# absolute_each PATHS: the same for a comma-separated list of PATH or NAME=PATH.
absolute_each() {
  local path paths result=""
  IFS=, read -r -a paths <<<"$1"
  for path in "${paths[@]}"; do
    if [[ $path =~ ^[A-Za-z0-9_-]+= ]]; then
      path=${path%%=*}=$(absolute "${path#*=}")
    else
      path=$(absolute "$path")
    fi
    result+=${result:+,}$path
  done
  printf '%s' "$result"
}

# wants_gpus COUNT: exit if no node has COUNT GPUs; Ray would let the job wait forever.
wants_gpus() {
  ray list nodes --address "$RAY_ADDRESS" --filter state=ALIVE --detail --format json |
    python3 -c '
import json, sys
script, asked = sys.argv[1], float(sys.argv[2])
nodes = json.load(sys.stdin)
if any((node.get("labels") or {}).get("ray.io/node-group") for node in nodes):
    sys.exit()  # an autoscaler may start such a node
most = max([node["resources_total"].get("GPU", 0) for node in nodes], default=0)
if asked > most:
    sys.exit(f"{script}: {asked:g} GPUs are requested, but no node of the cluster has more than "
             f"{most:g}; lower GPUS or add a node")
' "${0##*/}" "$1" || exit 2
}

# submit COMMAND ARGUMENTS...: run a vlray command as a Ray job, wait, and exit with its status.
submit() {
  local command=$1 runs python
  shift
  runs=$(absolute "$RUNS_DIR")
  read -r -a python <<<"$PYTHON"
  if [[ $UV == 1 ]]; then
    python=(bash jobs/python.sh)
    job_options+=(--runtime-env-json '{"py_executable": "bash jobs/python.sh"}')
  fi
  cd -- "$root" || exit  # this folder is sent to the nodes, except for .rayignore
  # At level info, the client also lists the files that it leaves out ("Ignoring upload").
  # shellcheck disable=SC2154 # some scripts set the environment
  exec ray --logging-level warning job submit --working-dir . "${job_options[@]}" -- \
    ${environment[@]+"${environment[@]}"} "${python[@]}" -m "vlray.$command" --env.runs-dir "$runs" "$@"
}
