#!/usr/bin/env bash
#SBATCH --job-name=vlray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#
# Run a command of vlray on the nodes of a Slurm job: a Ray cluster on them, begun and ended here.
# From a checkout that all nodes see, with what `make install` makes in it:
#
#   sbatch jobs/slurm.sh extract /data/photos /data/regions
#   sbatch --nodes=4 jobs/slurm.sh train vqa:train /data/regions /data/models/vqa --precision bf16
#
# Options of sbatch go before those above. At the end of its time the command gets SIGTERM two
# minutes early; the same sbatch again goes on. jobs/README.md has the rest.
set -euo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: sbatch [options of sbatch] ${0##*/} COMMAND [arguments of vlray COMMAND]" >&2
  exit 2
fi
if [[ -z ${SLURM_JOB_ID-} ]]; then
  echo "${0##*/}: this is no Slurm job; start it by sbatch" >&2
  exit 2
fi
: "${VLRAY_CHECKOUT:=$SLURM_SUBMIT_DIR}"  # sbatch runs a copy of this file, from elsewhere
: "${START_S:=180}"                       # that the nodes have to join

PATH=$VLRAY_CHECKOUT/.venv/bin:$PATH
PYTHONPATH=$VLRAY_CHECKOUT${PYTHONPATH:+:$PYTHONPATH}
RAY_AUTH_MODE=token  # nobody else on these nodes gets into the cluster
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
RAY_USAGE_STATS_ENABLED=0
export PATH PYTHONPATH RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}                              # where this script runs
address=$(python -c "import ray; print(ray.util.get_node_ip_address())")
port=$((20000 + SLURM_JOB_ID % 10000 * 4))    # jobs that share a node do not meet
folder=/tmp/vlray-$SLURM_JOB_ID               # short, for Ray's sockets
started=()
command_pid=

# Start Ray on NODES at once; the step ends when Ray does, and the other way round.
start_ray() {
  local count=$1 which=$2
  shift 2
  srun --nodes="$count" --ntasks="$count" --ntasks-per-node=1 --overlap "$which" \
    ray start --block --disable-usage-stats "$@" &
  started+=($!)
}

# shellcheck disable=SC2329  # trap calls it
finish() {
  local status=$?
  trap - EXIT
  trap '' TERM INT
  if [[ ${#started[@]} -gt 0 ]]; then
    kill -TERM "${started[@]}" 2>/dev/null || true
    wait "${started[@]}" 2>/dev/null || true
  fi
  srun --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" --ntasks-per-node=1 --overlap rm -rf "$folder" || true
  exit "$status"
}
trap finish EXIT
trap '[[ -z $command_pid ]] || kill -TERM "$command_pid"' TERM INT

start_ray 1 "--nodelist=$head" --head --node-ip-address="$address" --port="$port" \
  --temp-dir="$folder" --include-dashboard=false
if [[ ${#nodes[@]} -gt 1 ]]; then
  start_ray $((${#nodes[@]} - 1)) "--exclude=$head" --address="$address:$port"
fi

export RAY_ADDRESS=$address:$port
python - "${#nodes[@]}" "$START_S" <<'PY'
import sys, time
import ray
nodes, deadline, joined = int(sys.argv[1]), time.monotonic() + float(sys.argv[2]), 0
while joined < nodes:
    if time.monotonic() > deadline:
        sys.exit(f"slurm.sh: {joined} of {nodes} nodes joined within {sys.argv[2]} s; what they say "
                 "is above; START_S raises the limit")
    try:
        ray.init(logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
        joined = sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, RuntimeError):
        pass  # the head is not there yet
    time.sleep(1)
PY

python -m "vlray.$1" "${@:2}" &
command_pid=$!
status=0
wait "$command_pid" || status=$?
if kill -0 "$command_pid" 2>/dev/null; then  # the wait was ended by a signal; the command goes on
  status=0
  wait "$command_pid" || status=$?
fi
exit "$status"
