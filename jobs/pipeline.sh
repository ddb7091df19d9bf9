#!/usr/bin/env bash
# Run the steps of a file on a Ray cluster, as a job of Ray's:
#
#   jobs/pipeline.sh configs/pipeline/vqa-rad.yaml /data/rad --values data=/data/vqa_rad
#
# OUT, and the places that the file and its options name, must mean the same on every node: a shared
# disk, or s3:// and gs:// URIs; OUT is a folder. FILE.yaml is found there too, or lies in the
# checkout, which is sent along. What follows goes to `python -m vlray.pipeline` as it is.
# jobs/README.md has the rest.
set -euo pipefail

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

if [[ $# -lt 2 || $1 == -* || $2 == -* ]]; then
  usage "FILE.yaml OUT [options of vlray pipeline]"
fi
file=$(absolute "$1")
out=$(absolute "$2")
shift 2

submit pipeline "${file#"$root"/}" --output "$out" "$@"
