#!/usr/bin/env bash
# Run `vlray extract` on a Ray cluster, as a Ray job:
#
#   RAY_ADDRESS=http://head:8265 jobs/extract.sh /data/photos /data/regions --min-boxes 10
#
# IMAGES and OUT must be valid on every node: paths on a shared disk, or s3:// and gs:// URIs.
# Further arguments are passed to `python -m vlray.extract` unchanged. See jobs/README.md.
set -euo pipefail

: "${ACTORS:=0}"           # number of detectors that run in parallel; 0: as many as fit
: "${GPUS_PER_ACTOR:=-1}"  # GPUs per detector, also a fraction; -1: 1 if the cluster has GPUs
: "${CPUS_PER_ACTOR:=0}"   # CPUs per detector, which also decode; 0: 1, with GPUs up to 4

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

if [[ $# -lt 2 || $1 == -* || $2 == -* ]]; then
  usage "IMAGES OUT [options of vlray extract]"
fi
images=$(absolute "$1")
out=$(absolute "$2")
shift 2

submit extract "$images" "$out" \
  --cluster.actors "$ACTORS" \
  --cluster.gpus-per-actor "$GPUS_PER_ACTOR" \
  --cluster.cpus-per-actor "$CPUS_PER_ACTOR" \
  "$@"
