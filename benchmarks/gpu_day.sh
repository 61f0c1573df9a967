#!/usr/bin/env bash
# Everything to be known from a machine with an NVIDIA GPU, in one call of under 8 minutes:
#
#     benchmarks/gpu_day.sh OUT_FOLDER            # needs CuPy; pytest and hypothesis for tests; PyTorch, JAX to compare
#     benchmarks/gpu_day.sh OUT_FOLDER --short    # does it run? its figures mean nothing
#     benchmarks/gpu_day.sh OUT_FOLDER captured epochs     # these stages, in this order
#
# Stages, and in this order where none is named: machine captured recipes epochs tests stacked sanitizer gemm jax compile
# gradients training times launches. PYTHON names another interpreter than python3, GPU_DAY_SECONDS another time
# for all; SCRATCHGAN_DATA a folder with mnist/ in it, for `stacked`. The package need not be installed. Each stage leaves a
# file in the folder and has a time limit of its own, within what is left for all; the others go on if one fails.
# Status 1 if any failed.
set -u
[ $# -ge 1 ] || { echo "usage: $0 OUT_FOLDER [--short] [STAGE...]" >&2; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd) short="" root=$(cd "$(dirname "$0")/.." && pwd) python=${PYTHON:-python3}
shift
[ "${1:-}" != --short ] || { short=--short; shift; }
all="machine captured recipes epochs tests stacked sanitizer gemm jax compile gradients training times launches"
[ $# -gt 0 ] || set -- $all
cd "$root" || exit 2
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg
export NVIDIA_TF32_OVERRIDE=0 CUPY_TF32=0          # float32 means float32, in our products and in PyTorch's
failed=0 summary=$out/summary.txt budget=${GPU_DAY_SECONDS:-465}
: >"$summary"

# stage NAME SECONDS COMMAND...: its output in NAME.txt, a line in the summary
stage() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    [ $limit -le $((budget - SECONDS)) ] || limit=$((budget - SECONDS))
    if [ $limit -lt 5 ]; then
        echo "$name: left out, no time" | tee -a "$summary"
        failed=1
        return
    fi
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$out/$name.txt" 2>&1
    status=$?
    local word=ok
    [ $status -eq 0 ] || { word="FAILED, status $status"; failed=1; }
    [ $status -ne 124 ] && [ $status -ne 137 ] || word="TIMED OUT after $limit s"
    printf '%-10s %4d s  %s\n' "$name" $((SECONDS - start)) "$word" | tee -a "$summary"
    [ $status -eq 0 ] || tail -n 15 "$out/$name.txt" | cut -c1-200 | sed 's/^/    /'
}

day() { stage "$1" "$2" "$python" benchmarks/gpu_day.py "$1" $short; }

# The test-suite with no plugins but ours and, where it is installed, xdist: kernels compile at first use.
tests() {
    local tests=(tests) workers=()
    [ -z "$short" ] || tests=(tests/layers/test_linear.py tests/gan/test_game.py)
    if "$python" -c "import xdist" 2>/dev/null; then
        workers=(-p xdist.plugin -n "$([ -z "$short" ] && echo 8 || echo 2)")
    fi
    stage tests 200 env OPENBLAS_NUM_THREADS=2 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$python" -m pytest "${workers[@]}" \
        --device cuda -p no:cacheprovider --tb=short --durations=10 -rfE "${tests[@]}"
}

for name in "$@"; do
    case $name in
        tests) tests ;;
        machine) day machine 15 ;;
        captured) day captured 150 ;;
        recipes) day recipes 30 ;;
        epochs) day epochs 45 ;;
        stacked) day stacked 180 ;;
        sanitizer) day sanitizer 90 ;;
        gemm) day gemm 30 ;;
        jax) day jax 60 ;;
        compile) day compile 120 ;;
        gradients) day gradients 80 ;;
        training) day training 105 ;;
        times) day times 70 ;;
        launches) day launches 60 ;;
        *) echo "unknown stage $name" | tee -a "$summary"; failed=1 ;;
    esac
done
echo "total      $(printf '%4d' $SECONDS) s  $([ $failed -eq 0 ] && echo 'all ok' || echo 'something FAILED')" | tee -a "$summary"
exit $failed
