#!/bin/bash
# Makes the cluster where there is none; under its other name, only says whether there is one.
set -Eeuo pipefail

[ ! -s "$PGDATA/PG_VERSION" ] || exit 0
if [ "${0##*/}" = docker-enforce-initdb.sh ]; then
	echo >&2 "no cluster in $PGDATA"
	exit 1
fi
initdb --auth-local=trust --auth-host=scram-sha-256 --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:?is not set}")
echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
shopt -s nullglob
for script in /docker-entrypoint-initdb.d/*.sql; do
	postgres --single -D "$PGDATA" postgres < "$script"
done
