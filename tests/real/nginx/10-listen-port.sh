#!/bin/sh
sed -i "s/listen [0-9]*;/listen ${NGINX_PORT:-8080};/" /etc/nginx/nginx.conf
