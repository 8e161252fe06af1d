#!/bin/bash
# serve.sh VENV MODEL PORT [options]: serves a checkpoint on 127.0.0.1, with Triton's kernels interpreted on the CPU.
exec env TRITON_INTERPRET=1 TORCHDYNAMO_DISABLE=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 \
  HF_HUB_OFFLINE=1 VLLM_HOST_IP=127.0.0.1 OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
  "$1/bin/python" -m vllm.entrypoints.openai.api_server --model "$2" --served-model-name embedded --host 127.0.0.1 \
  --port "$3" --dtype float32 --enforce-eager --max-model-len 2048 --limit-mm-per-prompt '{"image":0,"video":0}' "${@:4}"
