#!/bin/sh
# All GPUs of this machine: sh one_node.sh dpo.yaml [--set key=value …]
set -eu
config=${1:?usage: sh one_node.sh CONFIG.yaml [--set key=value ...]}
shift
exec torchrun --standalone --nproc_per_node="${GPUS:-gpu}" \
    -m palate train "$config" --set resume_from_checkpoint=true "$@"
