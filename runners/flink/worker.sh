#!/bin/sh
# Starts a worker of a run where Flink wants a process for one (--environment_type=PROCESS): Beam's
# boot, which lies beside this script, fetches the program and runs it. Each boot needs a folder of
# its own, or two write their programs over each other. Nobody tidies up after one that is killed,
# which is how Flink ends them: the next one does. The process ID in a folder's name is boot's.
set -eu
folder=${TMPDIR:-/tmp}/coeval-worker-
for old in "$folder"*; do
	kill -0 "${old#"$folder"}" 2>/dev/null || rm -rf "$old"
done
mkdir -m 700 "$folder$$"
exec "$(dirname "$0")/boot" --semi_persist_dir="$folder$$" "$@"
