#!/bin/sh
set -e

ssh-keygen -A
mkdir -p /run/sshd
cron
cat /opt/tools/log &
exec /usr/sbin/sshd "$@"
