#!/usr/bin/env bash
# Run the steps of a file on a Ray cluster, as a job of Ray's:
#
#   jobs/pipeline.sh /data/story.yaml
#
# FILE.yaml, and the places that it names, must mean the same on every node: a shared disk, or s3://
# and gs:// URIs. Whatever follows it goes to `python -m vlray.pipeline` as it is. jobs/README.md has
# the rest.
set -euo pipefail

# shellcheck source=jobs/submit.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/submit.bash"

if [[ $# -lt 1 || $1 == -* ]]; then
  usage "FILE.yaml [options of vlray pipeline]"
fi
file=$(absolute "$1")
shift

submit pipeline "$file" "$@"
