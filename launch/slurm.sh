#!/usr/bin/env bash
# Train on one or more Slurm nodes, one process per node; JAX finds the others through Slurm.
#
#   launch/slurm.sh [--dry_run] [ARGS...]   submit; ARGS go to zeroseg train
# Five minutes before the time limit Slurm sends SIGTERM: the run saves a checkpoint, and the job
# is requeued until the run is finished. After CRASHES crashes without a stop between them it is
# not requeued.
set -euo pipefail

NAME=${NAME:-zeroseg}
NODES=${NODES:-1}
GPUS=${GPUS:-8}                  # per node
CPUS=${CPUS:-64}                 # per node
TIME=${TIME:-24:00:00}
PARTITION=${PARTITION:-}
CONFIG=${CONFIG:-imagenet}
WORKDIR=${WORKDIR:-runs/imagenet} # on a shared file system
PYTHON=${PYTHON:-.venv/bin/python}
CRASHES=${CRASHES:-3}

if [[ -n ${SLURM_JOB_ID:-} ]]; then
  # Inside the job.
  status=0
  srun --nodes="$NODES" --ntasks="$NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    "$PYTHON" -m zeroseg_jax train "--config=$CONFIG" "--workdir=$WORKDIR" \
    "--host_count=$NODES" "$@" || status=$?
  count=$WORKDIR/slurm-crashes
  case $status in
    0) rm -f "$count" ;;  # finished
    2) ;;                 # usage error: a retry would not help
    130|143)              # stopped, maybe in start-up
      rm -f "$count"
      scontrol requeue "$SLURM_JOB_ID" ;;
    *)
      mkdir -p "$WORKDIR"
      crashed=$(($(cat "$count" 2>/dev/null || echo 0) + 1))
      echo "$crashed" > "$count"
      if ((crashed < CRASHES)); then
        echo "slurm: exit code $status, crash $crashed of $CRASHES; requeued" >&2
        scontrol requeue "$SLURM_JOB_ID"
      else
        echo "slurm: exit code $status, crash $crashed of $CRASHES; not requeued" >&2
        rm -f "$count"
      fi ;;
  esac
  exit "$status"
fi

dry=
[[ ${1:-} == --dry_run ]] && { dry=1; shift; }
export NAME NODES GPUS CPUS CONFIG WORKDIR PYTHON CRASHES
command=(sbatch "--job-name=$NAME" "--nodes=$NODES" --ntasks-per-node=1 "--gpus-per-node=$GPUS"
  "--cpus-per-task=$CPUS" "--time=$TIME" --signal=TERM@300 --requeue --open-mode=append
  "--output=$NAME-%j.log")
[[ -n $PARTITION ]] && command+=("--partition=$PARTITION")
command+=("$0" "$@")
if [[ -n $dry ]]; then printf '%q ' "${command[@]}"; printf '\n'; else "${command[@]}"; fi
