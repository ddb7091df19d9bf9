#!/usr/bin/env bash
# Train on a Ray cluster, as a job of Ray's:
#
#   WORKERS=8 jobs/train.sh vqa:train /data/regions /data/models/vqa --valid vqa:minival
#
# REGIONS and OUT must mean the same on every node: a shared disk, or s3:// and gs:// URIs. Whatever
# follows them goes to `python -m vlray.train` as it is. jobs/README.md has the rest.
set -euo pipefail

: "${WORKERS:=0}"           # of Ray Train; 0: one for each GPU of the cluster, or 1
: "${CPUS_PER_WORKER:=1}"
: "${USE_GPU:=auto}"        # yes: refused where the cluster has none; no: only CPUs
: "${MAX_FAILURES:=3}"      # how often lost workers start again from the last checkpoint

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
