#!/usr/bin/env bash
# Every measurement that needs a GPU, the most important first, each once; see benchmarks/run_gpu.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONUNBUFFERED=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.run_gpu "$@"
