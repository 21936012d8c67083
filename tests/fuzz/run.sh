#!/usr/bin/env bash
# Usage: tests/fuzz/run.sh [SECONDS]. Fuzzes every native decode under ASan and UBSan (clang, libFuzzer), then unpack and
# the readers of files (Python, if scrimp is installed). Ends with 1 at the first finding. FUZZ_BUILD keeps the build;
# SCRIMP_ISA chooses kernels.
set -euo pipefail
seconds=${1:-20}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FUZZ_BUILD:-$(mktemp -d)}
compiler=$(command -v clang++-14 || command -v clang++)
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DSCRIMP_PYTHON=OFF -DSCRIMP_FUZZ=ON -DSCRIMP_SANITIZE=address,undefined >/dev/null
ninja -C "$build" fuzz_decode >/dev/null
mkdir -p "$build/corpus"
log=$build/fuzz_decode.log
if ! "$build/tests/fuzz/fuzz_decode" -max_total_time="$seconds" -max_len=2048 -print_final_stats=1 "$build/corpus" >"$log" 2>&1; then
  tail -40 "$log"
  exit 1
fi
grep -E "stat::number_of_executed_units|DONE" "$log"
if python -c 'import scrimp' 2>/dev/null; then
  python "$root/tests/fuzz/fuzz_unpack.py" "$seconds"
  python "$root/tests/fuzz/fuzz_files.py" "$seconds"
fi
