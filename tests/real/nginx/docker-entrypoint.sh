#!/bin/sh
set -eu

if [ "$1" = nginx ]; then
	for part in /docker-entrypoint.d/*.sh; do
		[ -n "${NGINX_ENTRYPOINT_QUIET_LOGS-}" ] || echo "$0: $part" >&2
		"$part"
	done
fi
exec "$@"
