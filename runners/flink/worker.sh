#!/bin/sh
# Starts a worker of a run where Flink wants a process for one (--environment_type=PROCESS): Beam's
# boot, which lies beside this script, fetches the program and runs it. Each boot needs a folder of
# its own, to work in too, or two write programs and options over each other. Nobody tidies up
# after one that is killed, which is how Flink ends them: the next one of this user on this host
# does. The process ID in a folder's name is boot's, which the program is told, too: it ends when
# that is not its parent any more.
set -eu
boot=$(cd "$(dirname "$0")" && pwd)/boot
folder=${TMPDIR:-/tmp}/coeval-worker-$(uname -n)-$(id -u)-
for old in "$folder"*; do
	pid=${old#"$folder"}
	case $pid in *[!0-9]*) continue ;; esac
	if [ -O "$old" ] && { [ "$pid" = $$ ] || ! kill -0 "$pid" 2>/dev/null; }; then
		rm -rf "$old" || :
	fi
done
mkdir -m 700 "$folder$$"
cd "$folder$$"
export COEVAL_BOOT=$$
exec "$boot" --semi_persist_dir="$folder$$" "$@"
