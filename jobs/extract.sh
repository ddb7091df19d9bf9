#!/usr/bin/env bash
# Extract on a Ray cluster, as a job of Ray's:
#
#   RAY_ADDRESS=http://head:8265 jobs/extract.sh /data/photos /data/regions --min-boxes 10
#
# IMAGES and OUT must mean the same on every node: a shared disk, or s3:// and gs:// URIs. Whatever
# follows them goes to `python -m vlray.extract` as it is. jobs/README.md has the rest.
set -euo pipefail

: "${RAY_ADDRESS:=http://127.0.0.1:8265}"  # of the dashboard, not of the cluster itself
: "${ACTORS:=0}"                           # detectors at work at the same time; 0: as many as fit
: "${GPUS_PER_ACTOR:=-1}"                  # a fraction shares a GPU; -1: 1 where there are GPUs
: "${CPUS_PER_ACTOR:=0}"                  # 0: 1, or a little less where each CPU has a detector
: "${DECODE_CPUS:=0.5}"                    # of each task that reads and decodes images
: "${RUNS_DIR:=$PWD/runs}"                 # for the job's settings and its log, on the head node
: "${PYTHON:=python}"                      # on the head node; by default the one that runs Ray

if [[ $# -lt 2 || $1 == -* || $2 == -* ]]; then
  echo "usage: ${0##*/} IMAGES OUT [options of vlray extract]" >&2
  exit 2
fi

# A job runs in a folder of its own, where a relative path would be another one.
absolute() {
  case $1 in
    *://*) printf '%s' "$1" ;;
    *) realpath -m -- "$1" ;;
  esac
}
images=$(absolute "$1")
out=$(absolute "$2")
runs=$(absolute "$RUNS_DIR")
shift 2

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."  # what is sent to the nodes; .rayignore says what not
PATH=$PWD/.venv/bin:$PATH
export RAY_ADDRESS PATH
exec ray job submit --working-dir . -- "$PYTHON" -m vlray.extract "$images" "$out" \
  --cluster.actors "$ACTORS" \
  --cluster.gpus-per-actor "$GPUS_PER_ACTOR" \
  --cluster.cpus-per-actor "$CPUS_PER_ACTOR" \
  --cluster.decode-cpus "$DECODE_CPUS" \
  --env.runs-dir "$runs" \
  "$@"
