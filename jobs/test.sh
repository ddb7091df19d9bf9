#!/usr/bin/env bash
# Test a model on a node of a Ray cluster, as a job of Ray's:
#
#   GPUS=1 jobs/test.sh /data/models/vqa vqa:minival --output /data/tests/vqa
#
# A test is one process: Ray puts it where the CPUs and GPUs below are free. CHECKPOINT, REGIONS
# (where they are given) and --output must mean the same there: a shared disk, or s3:// and gs://
# URIs. What follows DATA and REGIONS goes to `python -m vlray.test` as it is. jobs/README.md has
# the rest.
set -euo pipefail

: "${CPUS:=1}"
: "${GPUS:=0}"  # a fraction shares one; where no node has so many, nothing starts

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

if [[ $# -lt 2 || $1 == -* || $2 == -* ]]; then
  usage "CHECKPOINT DATA [REGIONS] [options of vlray test]"
fi
places=("$(absolute "$1")" "$2")
shift 2
if [[ $# -gt 0 && $1 != -* ]]; then
  places+=("$(absolute_each "$1")")
  shift
fi

[[ $GPUS == 0 ]] || wants_gpus "$GPUS"
job_options=(--entrypoint-num-cpus "$CPUS" --entrypoint-num-gpus "$GPUS")
submit test "${places[@]}" "$@"
