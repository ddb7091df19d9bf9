#!/usr/bin/env bash
# Run `vlray test` on a node of a Ray cluster, as a Ray job:
#
#   GPUS=1 jobs/test.sh /data/models/vqa vqa:minival --output /data/tests/vqa
#
# A test is one process, which Ray starts on a node with the free CPUs and GPUs below. CHECKPOINT,
# REGIONS (optional) and --output must be valid there: paths on a shared disk, or s3:// and gs://
# URIs. Further arguments are passed to `python -m vlray.test` unchanged. See jobs/README.md.
set -euo pipefail

: "${CPUS:=1}"
: "${GPUS:=0}"  # also a fraction; refused if no node has so many

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

if [[ $GPUS == 0 ]]; then
  # Ray leaves all GPUs visible to a job that asks for none.
  environment=(env CUDA_VISIBLE_DEVICES=)
else
  wants_gpus "$GPUS"
fi
job_options=(--entrypoint-num-cpus "$CPUS" --entrypoint-num-gpus "$GPUS")
submit test "${places[@]}" "$@"
