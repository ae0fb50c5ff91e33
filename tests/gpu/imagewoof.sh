#!/usr/bin/env bash
# Trains on ImageWoof on a GPU, 128 px, 5 epochs, bf16, several seeds, each in a process of its own. Prints mean and
# standard deviation of the validation accuracy after the last epoch, and the wall time from start to end of the process.
#   tests/gpu/imagewoof.sh DATA [--seeds N] [--recipe NAME] [--weft PATH] [-- FLAG...]
#   DATA      imagewoof2-160.tgz (or -320, or the full size), or its folder; or that name without the ending of parts that
#             `split` made of it (DATA.aa, DATA.ab, ...; or DATA.00, ...)
#   --seeds   5, where nothing is said; seeds 42, 43, ...
#   --recipe  one alone; where nothing is said ranger, default and best
#   FLAG...   of weft train, added to the recipes
# ranger: what weft train does where nothing is said, but for model, device and precision: batch 64, Ranger at 4e-3, flat for
#   72 % of the steps, then cosine, label smoothing 0.1, crops from scale 0.35, validation on the short side's centre crop.
# default: the same with Muon.
# best: Muon, MXResNet50 with ResnetTrick (ayasyrev) and self-attention, batch 32, validation on a centre crop of 160 px.
# Published recipes, with Ranger, self-attention and that validation:
# attention, trick: MXResNet50, and with its ResnetTrick, at batch 32.
# depthwise-norm: mxresnet-dw4-bn, four depthwise filters a channel with batch norm behind them (liuyao12, 77.3 % in the
#   author's notebook, images at full size), batch 32.
# depthwise: six of them without it, batch 16, the record of the leaderboard (76.6 %).
# fastai: xse_resnext50 at 8e-3, flat for 75 % of the steps, fastai's entry of January 2020 (71.9 %).
# Leaves a line for each recipe in build-gpu/logs/imagewoof.json, from which run.sh takes it into its table, and a copy in $OUT
# where that is set.
set -euo pipefail
export LC_ALL=C  # a decimal point in $EPOCHREALTIME
script=$(realpath "$0")
here=$(cd "$(dirname "$0")/../.." && pwd)

same="--sa --batch-size 32 --valid-resize 160"
declare -A recipes=([ranger]="--model mxresnet50" [default]="--model mxresnet50 --optimizer muon"
  [best]="--model mxresnet50-trick --optimizer muon $same" [attention]="--model mxresnet50 $same"
  [trick]="--model mxresnet50-trick $same" [depthwise-norm]="--model mxresnet-dw4-bn $same"
  [depthwise]="--model mxresnet-dw6 --sa --batch-size 16 --valid-resize 160"
  [fastai]="--model xse_resnext50 --sa --lr 8e-3 --anneal-start 0.75 --valid-resize 160")
usage() { sed -n '2,/^set /p' "$script" | sed -n 's/^# \{0,1\}//p'; }
wrong() { echo "imagewoof.sh: $*" >&2 && exit 2; }

data="" seeds=5 names="ranger default best" weft=$here/build-gpu/weft/apps/weft more=()
while (($# > 0)); do
  case $1 in
    --seeds | --recipe | --weft)
      (($# > 1)) || wrong "$1 takes a value, see --help"
      case $1 in --seeds) seeds=$2 ;; --recipe) names=$2 ;; *) weft=$2 ;; esac
      shift 2
      ;;
    --) shift && more=("$@") && break ;;
    -h | --help) usage && exit 0 ;;
    -*) wrong "unknown flag $1, see --help" ;;
    *) data=$1 && shift ;;
  esac
done
[[ -n $data ]] || { usage >&2 && exit 2; }
[[ $seeds =~ ^[1-9][0-9]*$ ]] || wrong "--seeds takes a number, not '$seeds'"
for name in $names; do [[ -v recipes[$name] ]] || wrong "--recipe is one of ${!recipes[*]}, not '$name'"; done
[[ -f $weft ]] || wrong "there is no $weft: build it (tests/gpu/run.sh --only build) or give --weft PATH"

work=$here/build-gpu
runs=$work/runs/imagewoof
result=$work/logs/imagewoof.json
mkdir -p "$runs" "$work/logs"
export XDG_CACHE_HOME=$work/cache
if [[ ! -e $data ]]; then
  shopt -s nullglob
  parts=("$data".[a-z0-9][a-z0-9])
  ((${#parts[@]} > 0)) || wrong "there is no $data, and no parts $data.aa, ..."
  joined=$work/$(basename "$data")
  [[ -s $joined ]] || { cat "${parts[@]}" > "$joined.part"; mv "$joined.part" "$joined"; }
  data=$joined
fi

for name in $names; do
  read -r -a recipe <<< "${recipes[$name]}"
  flags=(--size 128 --epochs 5 --device cuda --precision bf16 "${recipe[@]}" "${more[@]}")
  printf '\n==> %s: weft train --data %s %s\n' "$name" "$(basename "$data")" "${flags[*]}"
  lines=""
  for ((seed = 42; seed < 42 + seeds; ++seed)); do
    run=$runs/$name-$seed start=$EPOCHREALTIME
    "$weft" train --data "$data" "${flags[@]}" --seed "$seed" --out "$run" --overwrite --quiet
    end=$EPOCHREALTIME
    lines+="$seed $start $end $run/summary.json"$'\n'
  done
  python3 - "$name" "$result" "weft train ${flags[*]}" "$lines" << 'PY'
import json, statistics, sys
name, path, command, lines = sys.argv[1:]
runs = []
for line in lines.splitlines():
    seed, start, end, summary = line.split(" ", 3)
    with open(summary) as file:
        summary = json.load(file)
    runs.append({"seed": int(seed), "wall_seconds": float(end) - float(start), "accuracy": 100 * summary["final_val_accuracy"],
                 "best_accuracy": 100 * summary["best_val_accuracy"], "images_per_second": summary["images_per_second"]})
print("| seed | accuracy, last epoch | best epoch | wall time | images/s in training |\n|---|---|---|---|---|")
for r in runs:
    print(f"| {r['seed']} | {r['accuracy']:.2f} % | {r['best_accuracy']:.2f} % | {r['wall_seconds']:.1f} s | {r['images_per_second']:,.0f} |")
values, walls = [r["accuracy"] for r in runs], [r["wall_seconds"] for r in runs]
spread = statistics.stdev(values) if len(values) > 1 else None
middle = statistics.median(walls)
remark = f"{len(values)} seed{'s' * (len(values) > 1)}" + (f", standard deviation {spread:.2f}" if spread is not None else "")
print(f"\n{name}: accuracy {statistics.mean(values):.2f} % ({remark}); wall time {middle:.1f} s (median; "
      f"{min(walls):.1f} to {max(walls):.1f} s, the first {walls[0]:.1f} s)")
row = {"bench": "imagewoof", "recipe": name, "command": command, "runs": runs, "accuracy_mean": statistics.mean(values),
       "accuracy_std": spread, "wall_seconds_median": middle, "wall_seconds_first": walls[0], "remark": remark}
try:
    with open(path) as file:
        kept = [line for line in file if json.loads(line)["recipe"] != name]
except FileNotFoundError:
    kept = []
with open(path, "w") as file:
    file.writelines(kept + [json.dumps(row) + "\n"])
PY
  [[ -z ${OUT:-} ]] || cp "$result" "$OUT/"
done
