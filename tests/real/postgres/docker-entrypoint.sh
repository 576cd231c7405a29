#!/bin/bash
set -Eeo pipefail

if [ "$1" = postgres ]; then
	if [ "$(id -u)" = 0 ]; then
		install -d -o postgres -g postgres -m 0700 "$PGDATA"
		chown -R postgres:postgres "$PGDATA"
		install -d -o postgres -g postgres -m 3777 /var/run/postgresql
		exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$BASH_SOURCE" "$@"
	fi
	docker-ensure-initdb.sh
fi
exec "$@"
