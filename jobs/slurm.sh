#!/usr/bin/env bash
#SBATCH --job-name=vlray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#
# Run a vlray command in a Slurm job: start a Ray cluster on its nodes, run the command, stop the
# cluster. Submit from a checkout on a shared disk in which `make install` was run:
#
#   sbatch jobs/slurm.sh extract /data/photos /data/regions
#   sbatch --nodes=4 jobs/slurm.sh train vqa:train /data/regions /data/models/vqa --precision bf16
#
# Options of sbatch precede jobs/slurm.sh and override the lines above. Two minutes before the time
# limit, the command gets SIGTERM; the same sbatch resumes it. See jobs/README.md.
set -euo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: sbatch [options of sbatch] ${0##*/} COMMAND [arguments of vlray COMMAND]" >&2
  exit 2
fi
if [[ -z ${SLURM_JOB_ID-} ]]; then
  echo "${0##*/}: this is not a Slurm job; start it with sbatch" >&2
  exit 2
fi
: "${VLRAY_CHECKOUT:=$SLURM_SUBMIT_DIR}"  # sbatch runs a copy of this file in another folder
: "${START_S:=180}"                       # time limit for the nodes to join, in seconds

PATH=$VLRAY_CHECKOUT/.venv/bin:$PATH
PYTHONPATH=$VLRAY_CHECKOUT${PYTHONPATH:+:$PYTHONPATH}
RAY_AUTH_MODE=token  # keeps other users of these nodes out of the cluster
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
RAY_USAGE_STATS_ENABLED=0
# Over these interfaces, the nodes of a cluster do not reach each other.
: "${NCCL_SOCKET_IFNAME:=^lo,docker,virbr,veth}"
export NCCL_SOCKET_IFNAME
export PATH PYTHONPATH RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}                              # where this script runs
address=$(python -c "import ray; print(ray.util.get_node_ip_address())")
# Jobs on one node need different ports. These lie below those that Linux hands out (from 32768).
port=$((20000 + SLURM_JOB_ID % 3000 * 4))
folder=/tmp/vlray-$SLURM_JOB_ID               # short, because paths of Ray's sockets are limited
started=()
command_pid=

# start_ray COUNT NODE_OPTION RAY_OPTIONS...: start Ray on COUNT nodes, in a job step that ends with
# it.
start_ray() {
  local count=$1 which=$2
  shift 2
  # Without --cpu-bind=none and --mem=0, Slurm may confine a step to one core and to the memory of
  # one core.
  srun --nodes="$count" --ntasks="$count" --ntasks-per-node=1 --overlap --cpu-bind=none --mem=0 \
    "$which" ray start --block --disable-usage-stats \
    --dashboard-agent-listen-port="$((port + 2))" "$@" &
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
  --ray-client-server-port="$((port + 1))" --temp-dir="$folder" --include-dashboard=false
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
        sys.exit(f"slurm.sh: {joined} of {nodes} nodes joined within {sys.argv[2]} s; their "
                 "output is above; START_S raises the limit")
    try:
        ray.init(logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
        joined = sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, RuntimeError):
        pass  # the head has not started yet
    time.sleep(1)
PY

python -m "vlray.$1" "${@:2}" &
command_pid=$!
status=0
wait "$command_pid" || status=$?
if kill -0 "$command_pid" 2>/dev/null; then  # a signal ended the wait, but the command still runs
  status=0
  wait "$command_pid" || status=$?
fi
exit "$status"
