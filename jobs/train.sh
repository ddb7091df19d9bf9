#!/usr/bin/env bash
# Run `vlray train` on a Ray cluster, as a Ray job:
#
#   WORKERS=8 jobs/train.sh vqa:train /data/regions /data/models/vqa --valid vqa:minival
#
# REGIONS and OUT must be valid on every node: paths on a shared disk, or s3:// and gs:// URIs.
# Further arguments are passed to `python -m vlray.train` unchanged. See jobs/README.md.
set -euo pipefail

: "${WORKERS:=0}"           # Ray Train workers; 0: one per GPU of the cluster, or 1
: "${CPUS_PER_WORKER:=1}"
: "${USE_GPU:=auto}"        # yes: fail if the cluster has no GPU; no: only CPUs
: "${MAX_FAILURES:=3}"      # how often lost workers restart from the last checkpoint

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

if [[ $# -lt 3 || $1 == -* || $2 == -* || $3 == -* ]]; then
  usage "DATA REGIONS OUT [options of vlray train]"
fi
data=$1
regions=$(absolute_each "$2")
out=$(absolute "$3")
shift 3

submit train "$data" "$regions" "$out" \
  --cluster.workers "$WORKERS" \
  --cluster.cpus-per-worker "$CPUS_PER_WORKER" \
  --cluster.use-gpu "$USE_GPU" \
  --cluster.max-failures "$MAX_FAILURES" \
  "$@"
