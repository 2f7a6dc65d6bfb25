#!/usr/bin/env bash
# Train on a TPU slice of GKE as a JobSet. Needed: a cluster with the JobSet controller and a TPU
# node pool; an image with this project and jax[tpu]; a volume claim that all pods mount.
#
#   launch/gke_jobset.sh run [ARGS...]   create the JobSet; ARGS go to zeroseg train
#   launch/gke_jobset.sh logs            follow pod 0
#   launch/gke_jobset.sh delete          SIGTERM: every pod saves a checkpoint and ends
#   --dry_run before the verb prints the commands and the manifest, and runs none.
set -euo pipefail

NAME=${NAME:-zeroseg}
IMAGE=${IMAGE:-REGISTRY/zeroseg_jax:latest}
CLAIM=${CLAIM:-runs}                       # PersistentVolumeClaim, ReadWriteMany
TOPOLOGY=${TOPOLOGY:-v5e:8x8}              # as `zeroseg plan` spells it
CHIPS_PER_HOST=${CHIPS_PER_HOST:-4}
# ACCELERATOR and HOSTS follow from TOPOLOGY unless they are given.
RESTARTS=${RESTARTS:-20}                   # a preempted slice restarts and resumes
CONFIG=${CONFIG:-imagenet}
WORKDIR=${WORKDIR:-/runs/imagenet}

sides=${TOPOLOGY#*:}
if [[ ! $TOPOLOGY =~ ^(v4|v5e|v5p|v6e):[0-9]+(x[0-9]+)+$ ]]; then
  echo "gke_jobset: TOPOLOGY $TOPOLOGY is not v4, v5e, v5p or v6e with sides; write it like v5e:8x8" >&2
  exit 2
fi
chips=$((${sides//x/*}))
case ${TOPOLOGY%%:*} in
  v4) accelerator=tpu-v4-podslice ;;
  v5e) accelerator=tpu-v5-lite-podslice ;;
  v5p) accelerator=tpu-v5p-slice ;;
  v6e) accelerator=tpu-v6e-slice ;;
esac
ACCELERATOR=${ACCELERATOR:-$accelerator}
HOSTS=${HOSTS:-$(((chips + CHIPS_PER_HOST - 1) / CHIPS_PER_HOST))}

dry=
[[ ${1:-} == --dry_run ]] && { dry=1; shift; }
verb=${1:-}
[[ $# -gt 0 ]] && shift

# A value as a quoted scalar of YAML: JSON's escapes are YAML's.
quoted() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  printf '"%s"' "${text//$'\t'/\\t}"
}

manifest() {
  local argument extra=
  for argument in "$@"; do
    extra+=$'\n'"              - $(quoted "$argument")"
  done
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $(quoted "$NAME")
spec:
  failurePolicy:
    maxRestarts: $RESTARTS
  replicatedJobs:
  - name: slice
    template:
      spec:
        parallelism: $HOSTS
        completions: $HOSTS
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 300
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: $(quoted "$ACCELERATOR")
              cloud.google.com/gke-tpu-topology: $(quoted "$sides")
            containers:
            - name: train
              image: $(quoted "$IMAGE")
              command:
              - python
              - -m
              - zeroseg_jax
              - train
              - $(quoted "--config=$CONFIG")
              - $(quoted "--workdir=$WORKDIR")
              - $(quoted "--host_count=$HOSTS")$extra
              resources:
                limits:
                  google.com/tpu: $CHIPS_PER_HOST
              volumeMounts:
              - name: runs
                mountPath: /runs
            volumes:
            - name: runs
              persistentVolumeClaim:
                claimName: $(quoted "$CLAIM")
YAML
}

case $verb in
  run)
    if [[ -n $dry ]]; then echo 'kubectl apply -f - <<YAML'; manifest "$@"; echo YAML
    else manifest "$@" | kubectl apply -f -; fi
    ;;
  logs|delete)
    command=(kubectl logs --follow "job/$NAME-slice-0")
    [[ $verb == delete ]] && command=(kubectl delete jobset "$NAME")
    if [[ -n $dry ]]; then printf '%q ' "${command[@]}"; printf '\n'; else "${command[@]}"; fi
    ;;
  *) sed -n '2,/^set/{/^#/p}' "$0"; exit 2 ;;
esac
