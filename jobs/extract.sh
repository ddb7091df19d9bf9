#!/usr/bin/env bash
# Extract on a Ray cluster, as a job of Ray's:
#
#   RAY_ADDRESS=http://head:8265 jobs/extract.sh /data/photos /data/regions --min-boxes 10
#
# IMAGES and OUT must mean the same on every node: a shared disk, or s3:// and gs:// URIs. Whatever
# follows them goes to `python -m vlray.extract` as it is. jobs/README.md has the rest.
set -euo pipefail

: "${ACTORS:=0}"           # detectors at work at the same time; 0: as many as fit
: "${GPUS_PER_ACTOR:=-1}"  # a fraction shares a GPU; -1: 1 where there are GPUs
: "${CPUS_PER_ACTOR:=0}"   # 0: 1, or a little less where each CPU has a detector
: "${DECODE_CPUS:=0.5}"    # of each task that reads and decodes images

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
  --cluster.decode-cpus "$DECODE_CPUS" \
  "$@"
