#!/bin/sh
set -e

# `docker run redis --port 7000` and `docker run redis my.conf` start the server.
case $1 in
-* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	chown -R redis .
	exec gosu redis "$0" "$@"
fi
exec "$@"
