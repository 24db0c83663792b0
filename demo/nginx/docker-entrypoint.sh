#!/bin/sh
# Runs what is in /docker-entrypoint.d, then the command.
set -e
for f in /docker-entrypoint.d/*.sh; do
	"$f"
done
exec "$@"
