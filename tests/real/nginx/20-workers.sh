#!/bin/sh
[ -z "${NGINX_WORKERS-}" ] ||
	sed -i "s/^worker_processes .*/worker_processes $NGINX_WORKERS;/" /etc/nginx/nginx.conf
