#!/bin/sh
# Starts a worker of a run where Flink wants a process for one (--environment_type=PROCESS): Beam's
# boot, which lies beside this script, fetches the program and runs it. Each boot needs a folder of
# its own, to work in too, or two write programs and options over each other. Nobody tidies up
# after one that is killed, which is how Flink ends them: the next one does. The process ID in a
# folder's name is boot's.
set -eu
boot=$(cd "$(dirname "$0")" && pwd)/boot
folder=${TMPDIR:-/tmp}/coeval-worker-
for old in "$folder"*; do
	pid=${old#"$folder"}
	if [ "$pid" = $$ ] || ! kill -0 "$pid" 2>/dev/null; then
		rm -rf "$old"
	fi
done
mkdir -m 700 "$folder$$"
cd "$folder$$"
exec "$boot" --semi_persist_dir="$folder$$" "$@"
