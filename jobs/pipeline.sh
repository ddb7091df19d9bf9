#!/usr/bin/env bash
# Run `vlray pipeline` on a Ray cluster, as a Ray job:
#
#   jobs/pipeline.sh configs/pipeline/vqa-rad.yaml /data/rad --values data=/data/vqa_rad
#
# OUT is a folder on a shared disk. Paths in the file and in the options must be valid on every
# node: paths on a shared disk, or s3:// and gs:// URIs. FILE.yaml is on the shared disk, or in this
# checkout, which is sent to the cluster. Further arguments are passed to `python -m vlray.pipeline`
# unchanged. See jobs/README.md.
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
