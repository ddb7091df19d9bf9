#!/usr/bin/env bash
# Search options on a Ray cluster, as a job of Ray's:
#
#   jobs/tune.sh /data/sweep --truth /data/instances_val2017.json --objective ar@36 \
#     --space nms_thresh=0.3..0.9/10 --space score_thresh=0.05,0.1,0.2 -- extract /data/val2017
#
# All places must mean the same on every node: a shared disk, or s3:// and gs:// URIs. OUT, and what
# follows `extract` or `train`, may be relative here; the files of options may not. Everything goes
# to `python -m vlray.tune`. jobs/README.md has the rest.
set -euo pipefail

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

names="OUT [options of vlray tune] -- extract IMAGES | train DATA REGIONS [options of it]"
if [[ $# -lt 1 || $1 == -* ]]; then
  usage "$names"
fi
out=$(absolute "$1")
shift

options=()
while [[ $# -gt 0 && $1 != -- ]]; do
  options+=("$1")
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

submit tune "$out" "${options[@]}" -- "${tuned[@]}" "$@"
