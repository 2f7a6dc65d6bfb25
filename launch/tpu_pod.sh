#!/usr/bin/env bash
# Train on a Cloud TPU slice, requested as a queued resource. Every worker runs the same command.
#
#   launch/tpu_pod.sh create          request the slice and wait until it is active
#   launch/tpu_pod.sh copy            copy this directory to every worker and install
#   launch/tpu_pod.sh run [ARGS...]   start training on all workers; ARGS go to zeroseg train
#   launch/tpu_pod.sh logs            follow worker 0
#   launch/tpu_pod.sh stop            SIGTERM: every worker saves and ends; `run` resumes
#   launch/tpu_pod.sh delete          delete the slice
#   --dry_run before the verb prints the commands and runs none.
set -euo pipefail

NAME=${NAME:-zeroseg}
PROJECT=${PROJECT:-$(gcloud config get-value project 2>/dev/null)}
ZONE=${ZONE:-us-west4-a}
TOPOLOGY=${TOPOLOGY:-v5e:8x8}         # as `zeroseg plan` spells it; it estimates which one fits
SPOT=${SPOT:-}                        # SPOT=1 for preemptible capacity
# TYPE, RUNTIME and HOSTS (workers of four chips) follow from TOPOLOGY unless they are given.
CONFIG=${CONFIG:-imagenet}
WORKDIR=${WORKDIR:-/mnt/runs/imagenet} # shared by all workers: NFS or gcsfuse
DIRECTORY=zeroseg_jax                 # on the workers

sides=${TOPOLOGY#*:}
if [[ ! $TOPOLOGY =~ ^(v4|v5e|v5p|v6e):[0-9]+(x[0-9]+)+$ ]]; then
  echo "tpu_pod: TOPOLOGY $TOPOLOGY is not v4, v5e, v5p or v6e with sides; write it like v5e:8x8" >&2
  exit 2
fi
chips=$((${sides//x/*}))
case ${TOPOLOGY%%:*} in
  v4) type=v4-$((2 * chips)) runtime=tpu-ubuntu2204-base ;;  # its types count cores, two a chip
  v5e) type=v5litepod-$chips runtime=v2-alpha-tpuv5-lite ;;
  v5p) type=v5p-$((2 * chips)) runtime=v2-alpha-tpuv5 ;;
  v6e) type=v6e-$chips runtime=v2-alpha-tpuv6e ;;
esac
TYPE=${TYPE:-$type}
RUNTIME=${RUNTIME:-$runtime}
HOSTS=${HOSTS:-$(((chips + 3) / 4))}

dry=
[[ ${1:-} == --dry_run ]] && { dry=1; shift; }
verb=${1:-}
[[ $# -gt 0 ]] && shift

do_() {
  if [[ -n $dry ]]; then printf '%q ' "$@"; printf '\n'; else "$@"; fi
}
on_workers() {
  do_ gcloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" \
    --worker="$1" --command="$2"
}

case $verb in
  create)
    do_ gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" \
      --project="$PROJECT" --zone="$ZONE" --accelerator-type="$TYPE" \
      --runtime-version="$RUNTIME" ${SPOT:+--spot}
    state=
    until [[ -n $dry || $state == ACTIVE ]]; do
      state=$(gcloud compute tpus queued-resources describe "$NAME" --project="$PROJECT" \
        --zone="$ZONE" --format='value(state.state)')
      echo "tpu_pod: $NAME is $state"
      case $state in
        ACTIVE) ;;
        FAILED|SUSPENDED) echo "tpu_pod: delete $NAME and ask again" >&2; exit 1 ;;
        *) sleep "${POLL_SECONDS:-30}" ;;
      esac
    done
    ;;
  copy)
    do_ tar --exclude=.git --exclude=.venv --exclude=runs -czf /tmp/zeroseg_jax.tgz .
    do_ gcloud compute tpus tpu-vm scp /tmp/zeroseg_jax.tgz "$NAME:" --project="$PROJECT" \
      --zone="$ZONE" --worker=all
    on_workers all "mkdir -p $DIRECTORY && tar -xzf zeroseg_jax.tgz -C $DIRECTORY \
&& cd $DIRECTORY && make setup \
&& .venv/bin/python -m pip install --quiet \"jax[tpu]==\$(.venv/bin/python -c 'import jax; print(jax.__version__)')\""
    ;;
  run)
    arguments=
    [[ $# -gt 0 ]] && arguments=$(printf ' %q' "$@")
    on_workers all "cd $DIRECTORY || exit; nohup .venv/bin/python -m zeroseg_jax train \
$(printf '%q ' "--config=$CONFIG" "--workdir=$WORKDIR" "--host_count=$HOSTS")${arguments# } > train.log 2>&1 \
< /dev/null & echo \$! > train.pid"
    ;;
  logs) on_workers 0 "tail -n 50 -F $DIRECTORY/train.log" ;;
  stop) on_workers all "kill -TERM \$(cat $DIRECTORY/train.pid)" ;;
  delete)
    do_ gcloud compute tpus queued-resources delete "$NAME" --project="$PROJECT" \
      --zone="$ZONE" --force --quiet
    ;;
  *) sed -n '2,/^set/{/^#/p}' "$0"; exit 2 ;;
esac
