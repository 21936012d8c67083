#!/usr/bin/env bash
# Usage: tests/fuzz/run.sh [SECONDS|build]. Fuzzes every native decode under ASan and UBSan (clang, libFuzzer), then unpack
# and the readers of files, in Python on a module with the same instruments (needs numpy, pybind11, safetensors). Ends with
# 1 at the first finding. FUZZ_BUILD keeps the build; `build` does nothing else. SCRIMP_ISA chooses kernels, else the best of
# this CPU: no others get instruments, which is most of the time that the build takes.
set -euo pipefail
seconds=${1:-20}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FUZZ_BUILD:-$(mktemp -d)}
compiler=$(command -v clang++-14 || command -v clang++)
options=(-DSCRIMP_PYTHON=OFF) targets=(fuzz_decode)
if python -c 'import numpy, pybind11, safetensors' 2>/dev/null; then
  options=(-DSCRIMP_PYTHON=ON "-Dpybind11_DIR=$(python -m pybind11 --cmakedir)")
  targets+=(_core)
fi
export SCRIMP_ISA=${SCRIMP_ISA:-$("$root/tests/isas" | tail -n 1)}
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g" "${options[@]}" -DSCRIMP_FUZZ=ON -DSCRIMP_SANITIZE=address,undefined \
  -DSCRIMP_WATCH="$SCRIMP_ISA" >/dev/null
ninja -C "$build" "${targets[@]}" >/dev/null
[ "$seconds" != build ] || exit 0
mkdir -p "$build/corpus"
log=$build/fuzz_decode.log
if ! "$build/tests/fuzz/fuzz_decode" -max_total_time="$seconds" -max_len=2048 -print_final_stats=1 "$build/corpus" >"$log" 2>&1; then
  tail -40 "$log"
  exit 1
fi
grep -E "stat::number_of_executed_units|DONE" "$log"
[ "${#targets[@]}" -gt 1 ] || exit 0

# A copy of the package beside the instrumented module; -S, or an editable install would come first.
mkdir -p "$build/package"
cp -r "$root/python/scrimp" "$build"/_core*.so "$build/package/"
mv "$build"/package/_core*.so "$build/package/scrimp/"
path=$build/package:$(python -c 'import sys; print(":".join(filter(None, sys.path)))')
runtime=$("$compiler" -print-file-name="libclang_rt.asan-$(uname -m).so")
for reader in fuzz_unpack fuzz_files; do
  LD_PRELOAD=$runtime ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$path python -S "$root/tests/fuzz/$reader.py" "$seconds"
done
