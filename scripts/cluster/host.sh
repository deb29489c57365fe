#!/usr/bin/env bash
# Starts one worker of a run that several hosts train together. Run it on every host, with the number of the host:
#
#   scripts/cluster/host.sh 0 hostA:20001,hostB:20001 RUN [OVERRIDE ...]     # on hostA, which writes the run folder
#   scripts/cluster/host.sh 1 hostA:20001,hostB:20001 RUN [OVERRIDE ...]     # on hostB
#
# RUN is a folder that all hosts share. The same command goes on after an interruption.
set -euo pipefail
index=$1 hosts=$2 run=$3
shift 3
workers=\"${hosts//,/\",\"}\"
export TF_CONFIG="{\"cluster\": {\"worker\": [$workers]}, \"task\": {\"type\": \"worker\", \"index\": $index}}"
exec ${DETECT:-detect} train distribute.kind=multi_worker "hydra.run.dir=$run" "$@"
