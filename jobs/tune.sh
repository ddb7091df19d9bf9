#!/usr/bin/env bash
# Run `vlray tune` on a Ray cluster, as a Ray job:
#
#   jobs/tune.sh /data/sweep --truth /data/instances_val2017.json --objective ar@36 \
#     --space nms_thresh=0.3..0.9/10 --space score_thresh=0.05,0.1,0.2 -- extract /data/val2017
#
# All paths must be valid on every node: paths on a shared disk, or s3:// and gs:// URIs. Other
# arguments are passed to `python -m vlray.tune` unchanged. See jobs/README.md.
set -euo pipefail

: "${CONCURRENT:=0}"       # trials that run in parallel; 0: as many as fit
: "${CPUS_PER_TRIAL:=1}"
: "${GPUS_PER_TRIAL:=-1}"  # GPUs per training trial; -1: 1 if the cluster has GPUs

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

names="OUT [options of vlray tune] -- extract IMAGES | train DATA REGIONS [its options]"
if [[ $# -lt 1 || $1 == -* ]]; then
  usage "$names"
fi
out=$(absolute "$1")
shift

options=()
while [[ $# -gt 0 && $1 != -- ]]; do
  options+=("$1")
  if [[ $1 == --truth || $1 == --downstream ]] && [[ $# -gt 1 ]]; then
    shift
    options+=("$(absolute "$1")")
  fi
  shift
done
case ${2-} in
  extract)
    [[ $# -ge 3 && $3 != -* ]] || usage "$names"
    tuned=(extract "$(absolute "$3")")
    shift 3
    ;;
  train)
    [[ $# -ge 4 && $3 != -* && $4 != -* ]] || usage "$names"
    tuned=(train "$3" "$(absolute_each "$4")")
    shift 4
    ;;
  *) usage "$names" ;;
esac

submit tune "$out" \
  --cluster.concurrent "$CONCURRENT" \
  --cluster.cpus-per-trial "$CPUS_PER_TRIAL" \
  --cluster.gpus-per-trial "$GPUS_PER_TRIAL" \
  "${options[@]}" -- "${tuned[@]}" "$@"
