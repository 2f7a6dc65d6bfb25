#!/usr/bin/env bash
# Train on all GPUs of this machine; after a crash, resume from the last checkpoint. SIGTERM and
# Ctrl-C are passed on: the run saves a checkpoint and ends, and so does this script.
#
#   launch/gpu_host.sh [--dry_run] [ARGS...]   ARGS go to zeroseg train
set -euo pipefail

CONFIG=${CONFIG:-imagenet}
WORKDIR=${WORKDIR:-runs/imagenet}
PYTHON=${PYTHON:-.venv/bin/python}
ATTEMPTS=${ATTEMPTS:-5}
# One process uses the GPUs: let it allocate nearly all memory.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}

dry=
[[ ${1:-} == --dry_run ]] && { dry=1; shift; }

command=("$PYTHON" -m zeroseg_jax train "--config=$CONFIG" "--workdir=$WORKDIR" "$@")
if [[ -n $dry ]]; then printf '%q ' "${command[@]}"; printf '\n'; exit; fi

child=
stopped=
trap 'stopped=1; [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM INT
for ((attempt = 1; ; attempt++)); do
  "${command[@]}" &
  child=$!
  # A signal before the line above found no child to pass it to.
  [[ -z $stopped ]] || kill -TERM "$child" 2>/dev/null || true
  code=0
  wait "$child" || code=$?
  # A signal to this script ends `wait` before the run has saved its checkpoint.
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  child=
  [[ $code == 0 ]] && exit 0
  [[ -n $stopped ]] && exit "$code"
  # 2 is a usage error; 130 and 143 are SIGINT and SIGTERM: a retry would not help.
  [[ $code == 2 || $code == 130 || $code == 143 || $attempt -ge $ATTEMPTS ]] && exit "$code"
  echo "gpu_host: exit code $code, attempt $((attempt + 1)) of $ATTEMPTS in 10 s" >&2
  sleep "${WAIT_SECONDS:-10}" &
  wait $! || exit 143
done
