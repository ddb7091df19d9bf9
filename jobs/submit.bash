# shellcheck shell=bash
# What the scripts of this folder share. They source it, and put options of `ray job submit` into
# `job_options` where they have some.

: "${RAY_ADDRESS:=http://127.0.0.1:8265}"  # of the dashboard, not of the cluster itself
: "${RUNS_DIR:=$PWD/runs}"                 # for the job's settings and its log, on the head node
: "${PYTHON:=python}"                      # on the head node; by default the one that runs Ray
: "${UV:=0}"                               # 1: packages by uv, as jobs/python.sh says

root=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")/..")
PATH=$root/.venv/bin:$PATH
export RAY_ADDRESS PATH
job_options=()

# usage NAMES: say how the script is called, and end.
usage() {
  echo "usage: ${0##*/} $1" >&2
  exit 2
}

# absolute PLACE: a job runs in a folder of its own, where a relative path would be another one.
absolute() {
  case $1 in
    *://*) printf '%s' "$1" ;;
    *) realpath -m -- "$1" ;;
  esac
}

# absolute_each PLACES: the same for PLACE, NAME=PLACE, and several of them with commas between.
absolute_each() {
  local place places result=""
  IFS=, read -r -a places <<<"$1"
  for place in "${places[@]}"; do
    if [[ $place =~ ^[A-Za-z0-9_-]+= ]]; then
      place=${place%%=*}=$(absolute "${place#*=}")
    else
      place=$(absolute "$place")
    fi
    result+=${result:+,}$place
  done
  printf '%s' "$result"
}

# wants_gpus COUNT: end where no node has so many; Ray would let the job wait for them.
wants_gpus() {
  ray list nodes --address "$RAY_ADDRESS" --filter state=ALIVE --detail --format json |
    python3 -c '
import json, sys
script, asked = sys.argv[1], float(sys.argv[2])
most = max([node["resources_total"].get("GPU", 0) for node in json.load(sys.stdin)], default=0)
if asked > most:
    sys.exit(f"{script}: {asked:g} GPUs are requested, but no node of the cluster has more than "
             f"{most:g}; lower GPUS or add a node")
' "${0##*/}" "$1" || exit 2
}

# submit COMMAND ARGUMENTS...: run a command of vlray as a job, wait, and end with its status.
submit() {
  local command=$1 runs python
  shift
  runs=$(absolute "$RUNS_DIR")
  read -r -a python <<<"$PYTHON"
  if [[ $UV == 1 ]]; then
    python=(bash jobs/python.sh)
    job_options+=(--runtime-env-json '{"py_executable": "bash jobs/python.sh"}')
  fi
  cd -- "$root" || exit  # what is sent to the nodes; .rayignore says what not
  exec ray job submit --working-dir . "${job_options[@]}" -- \
    "${python[@]}" -m "vlray.$command" --env.runs-dir "$runs" "$@"
}
