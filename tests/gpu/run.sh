#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can show, in one command that needs no network and under eight minutes.
#   tests/gpu/run.sh [--only STAGE,...] [--time FACTOR] [--go-on] [--dry]
#   --only   some of: build tests bits steps pytorch ops sanitizer (the others keep what an earlier run left)
#   --time   all time limits times that much
#   --go-on  tests and sanitizer: what ended well in an earlier run of the same build is not run again
#   --dry    needs no GPU: checks that the commands have the flags that are used here, and what a stage says without a GPU
# Needs the CUDA toolkit with cuDNN (or NVIDIA's Python packages), g++, CMake, Ninja, Python (or WEFT_PYTHON); for the rivals
# PyTorch. What tests/gpu/pack.sh has packed is used where it lies. WEFT_COMMIT names the commit where there is no .git.
# Builds into build-gpu/weft. Leaves in $OUT (where that is not set, in build-gpu/report) report.md, report.json and
# logs.tar.gz, which has the output of each stage and cuDNN's plans.
# Exit status 0: all stages passed, or are left out for want of compute-sanitizer or PyTorch. Targets that are missed don't count.
set -uo pipefail
script=$(realpath "$0")
cd "$(dirname "$script")/../.." || exit 1

stages=(build tests bits steps pytorch ops sanitizer)
declare -A seconds_of=([build]=200 [tests]=80 [bits]=45 [steps]=90 [pytorch]=70 [ops]=45 [sanitizer]=160)
# Figures of an earlier run don't outlive a stage that begins anew.
declare -A figures_of=([tests]="tests.jsonl test-*" [bits]="bits.jsonl" [steps]="step-*.jsonl*" [pytorch]=""
  [ops]="op-*.jsonl* optimizer.jsonl* gemm.jsonl*" [sanitizer]="sanitizer.jsonl memcheck-* racecheck-*" [build]="")
whole=470         # seconds for all of it
compile_until=200 # when torch.compile must be done, in seconds from the start

work=$PWD/build-gpu
build=$work/weft
logs=$work/logs
packages=$PWD/tests/gpu/packages/usr
python=${WEFT_PYTHON:-python3}
weft=${WEFT_BINARY:-$build/apps/weft}

# --- what stages use; each stage is a process of its own, started with --stage ---

# leave_out REASON: ends a stage that can't run here.
leave_out() { echo "not run: $*" && exit 77; }

has_gpu() { [[ -z ${WEFT_NO_GPU:-} ]] && { nvidia-smi -L 2> /dev/null | grep -q GPU || [[ -e /dev/nvidia0 ]]; }; }
needs_gpu() { [[ -n ${DRY:-} ]] || has_gpu || leave_out "no GPU"; }

# Of what is not on the PATH: the toolkit's folder, then NVIDIA's Python packages.
find_tool() {
  local folder
  command -v "$1" && return
  for folder in "${CUDA_ROOT:-}" /usr/local/cuda "$("$python" -c 'import nvidia; print(nvidia.__path__[0] + "/cu13")' 2> /dev/null)"; do
    [[ -n $folder && -x $folder/bin/$1 ]] && echo "$folder/bin/$1" && return
  done
  return 1
}

# run_weft ARGUMENT...: runs the command; with --dry asks it for its flags.
run_weft() {
  if [[ -z ${DRY:-} ]]; then
    "$weft" "$@"
    return
  fi
  local commands=() flag help missing=()
  for flag in "$@"; do
    [[ $flag == -* ]] && break
    commands+=("$flag")
  done
  help=$("$weft" "${commands[@]}" --help 2>&1) || { echo "weft ${commands[*]} --help fails: $help" && return 1; }
  for flag in "$@"; do
    [[ $flag == --* ]] && ! grep -qE -- "(^|[ ,])$flag([ ,=:{]|\$)" <<< "$help" && missing+=("$flag")
  done
  ((${#missing[@]} == 0)) && echo "weft ${commands[*]}: all flags are known" && return
  echo "weft ${commands[*]} does not know: ${missing[*]}"
  return 1
}

# bench FILE ARGUMENT...: the JSON lines of a benchmark, into a file of the logs.
bench() {
  local file=$logs/$1.jsonl status=0
  shift
  echo "--- weft bench $*"
  if [[ -n ${DRY:-} ]]; then
    run_weft bench "$@" --json
  else
    run_weft bench "$@" --json > "$file.part" || status=$?
    cat "$file.part"
    if ((status == 0)); then mv "$file.part" "$file"; fi
    return "$status"
  fi
}

# in_time SECONDS COMMAND...: runs it so long at most, and no longer than this process is let: what `timeout` starts is in a group
# of its own, which signals to the stage's do not reach.
in_time() {
  timeout -k 2 "$@" &
  trap 'kill $! 2> /dev/null' TERM
  wait $!  # a signal ends the first one
  wait $!
}

# --- the stages, in order ---

stage_build() {
  local nvcc arch flags targets jobs
  nvcc=$(find_tool nvcc) || { echo "There is no nvcc here." && return 1; }
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d .)
  # Of the CPU's kernels the baseline is enough here.
  flags=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON -DWEFT_CUDA=ON -DWEFT_INSTALL=OFF -DWEFT_ISAS=
    -DCMAKE_CUDA_ARCHITECTURES="${arch:-90}"
    -DCMAKE_CUDA_COMPILER="$nvcc" -DPython3_EXECUTABLE="$(command -v "$python")")
  # Old-fashioned run paths hold for libraries of libraries too.
  [[ -d $packages ]] && flags+=(-DCMAKE_PREFIX_PATH="$packages" "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags")
  if [[ -n ${DRY:-} ]]; then
    local tool
    for tool in cmake ninja g++; do command -v "$tool" || { echo "There is no $tool here." && return 1; }; done
    echo "cmake -S . -B build-gpu/weft -G Ninja ${flags[*]}"
    return
  fi
  grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$build/CMakeCache.txt" 2> /dev/null || rm -rf "$build"
  cmake -S . -B "$build" -G Ninja "${flags[@]}" || return
  # Of the tests only those for a GPU. Some cores are left to torch.compile.
  mapfile -t targets < <(ninja -C "$build" -t targets all | sed -n '/^cmake_/d; s/^\([a-z0-9_]*_gpu\): phony.*/\1/p')
  ((${#targets[@]} > 0)) || { echo "The build has no tests for a GPU." && return 1; }
  jobs=$(($(nproc) - $(nproc) / 5))
  ninja -C "$build" -j "$jobs" weft_command "${targets[@]}" | { grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking)' || true; }
}

# What takes long, longest first: into how many parts its test cases go, which run beside each other.
parts_of=(cuda_optim_test:8 cuda_norm_test:8 cuda_engine_test:6 cuda_learned_activations_test:4 cuda_trainer_test:4
  cuda_libraries_test:5 cuda_norm_once_test:3 cuda_elementwise_test:3 cuda_norm_pair_test:2 cuda_sequence_test:2)
# Whole runs of the command, for the time that is left: the kernels are those of the others.
last_of_all=(app_cuda_test:10 app_cuda_activations_test:2)

# all_parts FOLDER: lines of "PROGRAM FIRST LAST CASES", in the order in which they are to start.
all_parts() {
  local entry program i cases parts listed=" ${parts_of[*]%:*} ${last_of_all[*]%:*} " ordered=("${parts_of[@]}")
  for program in "$1"/*_gpu; do
    program=$(basename "$program" _gpu)
    [[ $listed == *" $program "* ]] || ordered+=("$program:1")
  done
  for entry in "${ordered[@]}" "${last_of_all[@]}"; do
    program=${entry%:*}_gpu parts=${entry#*:}
    [[ -x $1/$program ]] || continue
    cases=$("$1/$program" --count | sed -n 's/.*filters: \([0-9]*\)$/\1/p')
    ((parts > cases)) && parts=$cases
    for ((i = 0; i < parts; ++i)); do echo "$program $((i * cases / parts + 1)) $(((i + 1) * cases / parts)) $cases"; done
  done
}

# run_parts NAME FUNCTION GOOD: calls FUNCTION with the words of each line of the input, beside each other, in processes that know
# $PROGRAMS and how long they have; whether all left a line with the result GOOD in NAME.jsonl.
run_parts() {
  local name=$1 function=$2 good=$3 runs
  mapfile -t runs
  ((${#runs[@]} > 0)) || { echo "There are no programs for a GPU." && return 1; }
  local run words was ended=() left=()
  BUILT=$(cat "$build"/libweft*.so* "$build/tests/"*_gpu "$weft" 2> /dev/null | sha256sum | cut -c 1-16)
  [[ -n ${GO_ON:-} ]] && mapfile -t ended < <(grep -sF "\"build\": \"$BUILT\", \"result\": \"$good\"" "$logs/$name.jsonl")
  for run in "${runs[@]}"; do
    read -ra words <<< "$run"
    was="\"program\": \"${words[-4]}\", \"cases\": \"${words[-3]}-${words[-2]} of ${words[-1]}\""
    ((${#words[@]} > 4)) && was="\"tool\": \"${words[0]}\", $was"
    [[ ${ended[*]} == *"$was"* ]] || left+=("$run")
  done
  PARTS_UNTIL=$((STAGE_UNTIL - 5)) PROGRAMS=$build/tests
  export PARTS_UNTIL PROGRAMS BUILT logs
  export -f in_time "${function?}"
  printf '{"bench": "%s", "runs": %d}\n' "$name" ${#runs[@]} > "$logs/$name.jsonl"
  ((${#ended[@]} == 0)) || printf '%s\n' "${ended[@]}" >> "$logs/$name.jsonl"
  ((${#left[@]} == 0)) || printf '%s\n' "${left[@]}" | xargs -P $(($(nproc) - $(nproc) / 4)) -L 1 bash -c "$function \"\$@\"" "$function"
  (($(grep -c "\"result\": \"$good\"" "$logs/$name.jsonl") == ${#runs[@]}))
}

# test_part PROGRAM FIRST LAST CASES: runs these test cases of the program; a line into tests.jsonl.
test_part() {
  local program=$1 first=$2 last=$3 cases=$4 left=$((PARTS_UNTIL - EPOCHSECONDS)) status=0 result=passed started=$EPOCHSECONDS log
  log=$logs/test-$program-$first.log
  ((left < 1)) && return  # table.py counts what is missing
  in_time "$left" env WEFT_REQUIRE_GPU=1 WEFT_TEST_DEVICE=gpu "$PROGRAMS/$program" --order-by=rand --rand-seed=1 \
    --first="$first" --last="$last" > "$log" 2>&1 || status=$?
  case $status in
    0) ;;
    124 | 137 | 143) result="not finished" ;;
    *) result=failed ;;
  esac
  printf '{"bench": "tests", "program": "%s", "cases": "%d-%d of %d", "seconds": %d, "build": "%s", "result": "%s"}\n' \
    "$program" "$first" "$last" "$cases" $((EPOCHSECONDS - started)) "$BUILT" "$result" | tee -a "$logs/tests.jsonl"
  [[ $result == passed ]] || { echo "--- the end of ${log##*/}:" && tail -n 25 "$log"; }
}

# As `ctest -L gpu`, which would take one program after the other.
stage_tests() {
  needs_gpu
  [[ -n ${DRY:-} ]] && echo "the programs *_gpu" && return
  run_parts tests test_part passed < <(all_parts "$build/tests")
}

# Trains the same model on the built-in sample three times, once of them without a captured graph.
stage_bits() {
  needs_gpu
  local precision run bad=0 more
  : > "$logs/bits.jsonl"
  for precision in bf16 fp32; do
    for run in first second eager; do
      more=()
      [[ $run == eager ]] && more=(--eager)
      echo "--- $precision, $run"
      run_weft train --model mxresnet50 --sa --size 64 --epochs 2 --batch-size 25 --seed 7 --device cuda --precision "$precision" \
        --deterministic "${more[@]}" --out "$work/runs/bits-$precision-$run" --overwrite --quiet || return
    done
    [[ -n ${DRY:-} ]] && continue
    for run in second eager; do
      local a b equal=true
      a=$(sha256sum < "$work/runs/bits-$precision-first/model.safetensors")
      b=$(sha256sum < "$work/runs/bits-$precision-$run/model.safetensors")
      [[ $a == "$b" ]] || { equal=false && bad=1; }
      printf '{"bench": "bits", "precision": "%s", "run": "%s", "equal": %s, "first": "%.64s", "other": "%.64s"}\n' \
        "$precision" "$run" "$equal" "$a" "$b" | tee -a "$logs/bits.jsonl"
    done
  done
  return "$bad"
}

stage_steps() {
  needs_gpu
  local bad=0 batch
  local step=(step --model mxresnet50 --sa --size 128 --device cuda --precision bf16 --steps 50)
  bench step-256 "${step[@]}" --batch-size 256 --activation mish,relu || bad=1
  bench step-64 "${step[@]}" --batch-size 64 || bad=1
  for batch in 64 256; do bench "step-$batch-eager" "${step[@]}" --batch-size "$batch" --eager || bad=1; done
  bench step-128 "${step[@]}" --batch-size 128 || bad=1
  bench step-128-eager "${step[@]}" --batch-size 128 --eager || bad=1
  return "$bad"
}

# torch.compile has compiled beside the build (see start_compile) and waits for its turn to be measured once more.
stage_pytorch() {
  needs_gpu
  local bad=0
  if [[ -n ${DRY:-} ]]; then
    "$python" tests/gpu/pytorch_anchor.py --help > "$logs/anchor.txt" || return
    grep -q -- --again-when "$logs/anchor.txt" && echo "pytorch_anchor.py: all flags are known"
    return
  fi
  "$python" -c 'import torch' 2> /dev/null || leave_out "no PyTorch here ($python; another: WEFT_PYTHON)"
  "$python" tests/gpu/pytorch_anchor.py --mode eager --batch-size 256,64 > "$logs/pytorch-eager.jsonl" || bad=1
  cat "$logs/pytorch-eager.jsonl"
  touch "$logs/again"
  while [[ -n ${COMPILING:-} ]] && kill -0 "$COMPILING" 2> /dev/null; do sleep 0.2; done
  cat "$logs/pytorch-compile.jsonl" "$logs/pytorch-compile.log" 2> /dev/null
  for batch in 256 64; do
    grep -q "\"batch_size\": $batch," "$logs/pytorch-compile.jsonl" || { echo "torch.compile has no figure at batch $batch." && bad=1; }
  done
  return "$bad"
}

stage_ops() {
  needs_gpu
  local bad=0
  local op=(op --model mxresnet50 --sa --size 128 --batch-size 256 --device cuda --precision bf16)
  bench op-norm "${op[@]}" --only norm --seconds 0.1 || bad=1
  bench optimizer optimizer --model mxresnet50 --sa --device cuda --precision fp32 --seconds 0.1 || bad=1
  bench gemm gemm --device cuda --precision bf16 --seconds 0.1 || bad=1
  bench op-others "${op[@]}" --only conv,activation,pool,loss,matmul,attention,elementwise,reduce,dropout --seconds 0.02 || bad=1
  return "$bad"
}

# sanitize TOOL PROGRAM FIRST LAST CASES: runs these test cases of the program, which are mixed in a fixed order; a line into
# sanitizer.jsonl.
sanitize() {
  local tool=$1 program=$2 first=$3 last=$4 cases=$5 left=$((PARTS_UNTIL - EPOCHSECONDS)) status=0 result=clean errors log
  local started=$EPOCHSECONDS settings=(WEFT_TEST_LIGHT=1 WEFT_REQUIRE_GPU=1 WEFT_TEST_DEVICE=gpu)
  log=$logs/$tool-$program-$first.log
  ((left < 1)) && return  # table.py counts what is missing
  # For memcheck each tensor gets an allocation of its own. Racecheck breaks down over kernels of NVIDIA's libraries.
  [[ $tool == memcheck ]] && settings+=(WEFT_CUDA_MEMCHECK=1) || settings+=(WEFT_CUDA_OWN_KERNELS=1)
  # Errors of calls to CUDA are what some tests provoke.
  in_time "$left" env "${settings[@]}" "$SANITIZER" --tool "$tool" "$SANITIZER_FILTER" kns=weft --report-api-errors no \
    --error-exitcode 86 "$PROGRAMS/$program" --order-by=rand --rand-seed=1 --first="$first" --last="$last" > "$log" 2>&1 || status=$?
  errors=$(sed -n 's/.*\(ERROR SUMMARY: \|RACECHECK SUMMARY: \)\([0-9]*\).*/\2/p' "$log" | awk '{ sum += $1 } END { if (NR) print sum }')
  case $status in
    # The tool has had its say, and there was something to look at.
    0) [[ $errors == 0 ]] && grep -q 'assertions: *[1-9]' "$log" || result=failed ;;
    86) result=errors ;;
    124 | 137 | 143) result="not finished" ;;
    *) result=failed ;;
  esac
  printf '{"bench": "sanitizer", "tool": "%s", "program": "%s", "cases": "%d-%d of %d", "seconds": %d, "build": "%s", "result": "%s", "errors": %s}\n' \
    "$tool" "$program" "$first" "$last" "$cases" $((EPOCHSECONDS - started)) "$BUILT" "$result" "${errors:-null}" |
    tee -a "$logs/sanitizer.jsonl"
  [[ $result == clean ]] || { echo "--- the end of ${log##*/}:" && tail -n 25 "$log"; }
}

# Only kernels with `weft` in their names are watched, so not cuDNN's.
stage_sanitizer() {
  needs_gpu
  local tried
  [[ -n ${DRY:-} ]] && echo "compute-sanitizer: $(find_tool compute-sanitizer || echo 'not here')" && return
  SANITIZER=$(find_tool compute-sanitizer) || leave_out "no compute-sanitizer here"
  [[ $("$SANITIZER" --help) == *--kernel-name* ]] && SANITIZER_FILTER=--kernel-name || SANITIZER_FILTER=--kernel-regex
  export SANITIZER SANITIZER_FILTER
  tried=$(in_time 60 "$SANITIZER" "$weft" bench gemm --device cuda --precision fp32 --seconds 0.01 2>&1)
  [[ $tried == *"Device not supported"* ]] && leave_out "compute-sanitizer does not work with this device here"
  run_parts sanitizer sanitize clean < <(all_parts "$build/tests" | sed 's/.*/memcheck &\nracecheck &/')
}

# --- the whole ---

now() { date -u +%Y-%m-%dT%H:%MZ; }
commit() { git describe --always --dirty 2> /dev/null || echo "${WEFT_COMMIT:-not known}"; }

# What the report says of the machine, and more of it for the logs.
describe_machine() {
  local query
  query=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | head -n 1)
  "$python" - "$query" "$(now)" "$(commit)" "$(nproc)" "$(uname -sr)" > "$logs/machine.json" << 'PY'
import json, sys
gpu = (sys.argv[1].split(", ") + ["", "", ""])[:3] if sys.argv[1] else ["no GPU", "", ""]
print(json.dumps(dict(zip(["device", "driver", "memory", "date", "commit", "cores", "system"], [*gpu, *sys.argv[2:]]))))
PY
  {
    nvidia-smi -q -d MEMORY,UTILIZATION,ECC,TEMPERATURE,POWER,CLOCK,PERFORMANCE 2>&1 || echo "nvidia-smi does not work here"
    find_tool nvcc > /dev/null && "$(find_tool nvcc)" --version
    g++ --version | head -n 1
    cmake --version | head -n 1
    "$python" --version
  } > "$logs/machine.log" 2>&1
}

# torch.compile takes minutes, most of them on the CPU: beside the build, while the GPU has nothing else to do.
start_compile() {
  rm -f "$logs"/again* "$logs"/pytorch-*
  has_gpu && "$python" -c 'import torch' 2> /dev/null || return
  # Convolutions and products by cuDNN and cuBLAS: to try Triton's too takes longer than this run may last.
  TORCHINDUCTOR_MAX_AUTOTUNE_CONV_BACKENDS=ATEN TORCHINDUCTOR_MAX_AUTOTUNE_GEMM_BACKENDS=ATEN \
    TORCHINDUCTOR_COMPILE_THREADS=4 timeout -k 5 $((whole * factor)) "$python" tests/gpu/pytorch_anchor.py --mode compile \
    --batch-size 256,64 --again-when "$logs/again" > "$logs/pytorch-compile.jsonl" 2> "$logs/pytorch-compile.log" &
  export COMPILING=$!
  trap 'kill "$COMPILING" 2> /dev/null' EXIT
}
# So that nothing runs beside what is measured. What was compiled by then has been measured once.
await_compile() {
  [[ -n ${COMPILING:-} ]] || return
  while kill -0 "$COMPILING" 2> /dev/null && [[ ! -e $logs/again.ready ]]; do
    if ((SECONDS >= compile_until * factor)); then
      echo "torch.compile is not done after $SECONDS s and is stopped."
      kill "$COMPILING"
      break
    fi
    sleep 0.5
  done
}

# run_stage NAME: with its time limit; a line for it into stages.tsv.
run_stage() {
  local name=$1 log=$logs/$1.log limit=$((seconds_of[$1] * factor)) status=0 start=$SECONDS said result pattern
  ((whole * factor - SECONDS < limit)) && limit=$((whole * factor - SECONDS))
  rm -f "$log"
  set -f
  [[ -n ${GO_ON:-} ]] || for pattern in ${figures_of[$name]}; do find "$logs" -maxdepth 1 -name "$pattern" -delete; done
  set +f
  if ((limit < 10)); then
    status=77 said="not run: no time was left"
  else
    printf '==> %s (at most %d s)\n' "$name" "$limit"
    STAGE_UNTIL=$((EPOCHSECONDS + limit)) timeout -k 5 "$limit" bash "$script" --stage "$name" > "$log" 2>&1 &
    wait $! || status=$?  # so that a signal is heeded at once
    said=$(tail -n 1 "$log")
  fi
  case $status in
    0) result=passed said= ;;
    77) result="not run" said=${said#not run: } ;;
    124 | 137) result="timed out" said="after $limit s" ;;
    *) result=failed said="status $status" ;;
  esac
  [[ $result == passed || $result == "not run" ]] || tail -n 25 "$log" | sed 's/^/    /'
  printf '    %s%s, %d s\n' "$result" "${said:+: $said}" $((SECONDS - start))
  sed -i "/^$name\t/d" "$logs/stages.tsv"
  printf '%s\t%s\t%d\t%s\t%s\n' "$name" "$result" $((SECONDS - start)) "$said" "$(now), $(commit)" >> "$logs/stages.tsv"
}

# After each stage, so that something is left where a run is cut off.
publish() {
  "$python" tests/gpu/table.py "$logs" --markdown "$out/report.md" --json "$out/report.json" || return
  local folders=(logs)
  [[ -d $work/cache/weft/cudnn ]] && folders+=(cache/weft/cudnn)
  tar -czf "$out/logs.tar.gz" -C "$work" "${folders[@]}"
}

# Whether the flags are known, and what each stage does without a GPU.
dry() {
  local name bad=0 status said
  [[ -f $weft ]] || weft=$PWD/build/apps/weft
  [[ -f $weft ]] || { echo "There is no weft command, neither in build-gpu/weft nor in build; another: WEFT_BINARY=PATH" >&2 && return 1; }
  export WEFT_BINARY=$weft
  logs=$(mktemp -d)
  trap 'rm -rf "$logs"' EXIT
  for name in "${stages[@]}"; do
    echo "==> $name"
    DRY=1 LOGS=$logs bash "$script" --stage "$name" | grep -v '^---' | uniq | sed 's/^/    /'
    ((PIPESTATUS[0] == 0)) || { echo "    FAILED: see above" && bad=1; }
    [[ $name == build ]] && continue
    status=0
    said=$(WEFT_NO_GPU=1 LOGS=$logs bash "$script" --stage "$name" 2>&1) || status=$?
    echo "    without a GPU: $said"
    [[ $status == 77 && $said == "not run: no GPU" ]] || { echo "    FAILED: status $status" && bad=1; }
  done
  LOGS=$logs describe_machine
  printf 'tests\tnot run\t0\tno GPU\tnow\n' > "$logs/stages.tsv"
  "$python" tests/gpu/table.py "$logs" > /dev/null || bad=1
  ((bad == 0)) && echo "Nothing is missing." || echo "Something is missing, see above."
  return "$bad"
}

usage() { sed -n '2,/^set /p' "$script" | sed -n 's/^# \{0,1\}//p'; }

only="${stages[*]}" factor=1 mode=run
while (($# > 0)); do
  case $1 in
    --only) only=${2//,/ } && shift 2 ;;
    --time) factor=$2 && shift 2 ;;
    --go-on) export GO_ON=1 && shift ;;
    --dry) mode=dry && shift ;;
    --stage)  # a stage's own process
      logs=${LOGS:-$logs}
      export XDG_CACHE_HOME=$work/cache
      "stage_$2"
      exit
      ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
[[ $factor =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: --time takes a whole number" >&2 && exit 2; }
for name in $only; do
  [[ " ${stages[*]} " == *" $name "* ]] || { echo "run.sh: --only knows ${stages[*]}, not $name" >&2 && exit 2; }
done
if [[ $mode == dry ]]; then
  dry
  exit
fi

out=${OUT:-$work/report}
mkdir -p "$logs" "$out"
[[ $only == "${stages[*]}" ]] && find "$logs" -mindepth 1 ! -name imagewoof.json -delete
touch "$logs/stages.tsv"
describe_machine
trap 'kill $(jobs -p) 2> /dev/null; publish; exit 143' TERM INT HUP
[[ " $only " == *" pytorch "* ]] && start_compile
for name in $only; do
  [[ $name == build ]] || await_compile
  run_stage "$name"
  publish
done
echo
cat "$out/report.md"
# Left out for want of a tool is no failure; everything else that did not pass is.
! awk -F '\t' '$2 != "passed" && !($2 == "not run" && $4 ~ /compute-sanitizer|PyTorch/)' "$logs/stages.tsv" | grep -q .
