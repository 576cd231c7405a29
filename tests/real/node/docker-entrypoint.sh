#!/bin/sh
set -e

# Anything that is no program is a script or an option of node.
if [ "${1#-}" != "$1" ] || [ -z "$(command -v "$1")" ]; then
	set -- node "$@"
fi
exec "$@"
