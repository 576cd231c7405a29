#!/bin/sh
# usage: docker-run.sh [OPTION...] CONTEXT
#
# `rbuild build` in a container of docker, as yourself and without any capability. The store is yours, so
# the cache stays; the context is the current directory or below it. docker's own seccomp profile
# refuses user namespaces, hence the last --security-opt.
set -eu
store=${RBUILD_ROOT:-${XDG_DATA_HOME:-$HOME/.local/share}/rbuild-docker}
mkdir -p "$store"
exec ${RBUILD_DOCKER:-docker} run --rm \
    --user "$(id -u):$(id -g)" --cap-drop ALL --security-opt no-new-privileges \
    --security-opt seccomp=unconfined \
    --volume "$store:/store" --env RBUILD_ROOT=/store \
    --volume "$PWD:/workspace" --workdir /workspace \
    "${RBUILD_IMAGE:-registry.example.org/rbuild:latest}" rbuild build "$@"
