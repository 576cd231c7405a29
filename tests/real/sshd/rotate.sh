#!/bin/sh
echo "rotated at $(date -u +%FT%TZ)" > /opt/tools/log
