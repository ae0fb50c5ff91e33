#!/usr/bin/env python3
"""The table of a run on a GPU: what was measured beside what is wanted. tests/gpu/run.sh calls it after each stage.

    tests/gpu/table.py LOGS [--markdown FILE] [--json FILE]

LOGS: the folder with machine.json, stages.tsv, the JSON lines of the benchmarks, and imagewoof.json of tests/gpu/imagewoof.sh.
Needs no packages.
"""

import argparse
import json
import pathlib
import sys


class Logs:
    def __init__(self, folder):
        self.folder = folder

    def text(self, name):
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def rows(self, name):
        """The JSON lines of a file; a line that is cut off or a message in between is passed over."""
        rows = []
        for line in self.text(name).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows

    def stages(self):
        lines = [line.split("\t") for line in self.text("stages.tsv").splitlines()]
        return [dict(zip(("stage", "result", "seconds", "remark", "when"), line)) for line in lines]


def weft_rate(logs, batch, eager=False):
    rows = [r for r in logs.rows(f"step-{batch}{'-eager' if eager else ''}.jsonl") if r.get("activation", "mish") == "mish"]
    return rows[0]["images_per_second"] if rows else None


def pytorch_rate(logs, batch, mode):
    """The best of what was measured."""
    rates = [r["images_per_second"] for r in logs.rows(f"pytorch-{mode}.jsonl") if r.get("batch_size") == batch]
    return max(rates, default=None)


def over_pytorch(logs, batch):
    ours = weft_rate(logs, batch)
    theirs = {mode: pytorch_rate(logs, batch, mode) for mode in ("eager", "compile")}
    known = {mode: rate for mode, rate in theirs.items() if rate}
    if not ours or not known:
        return None
    best = max(known, key=known.get)
    missing = "".join(f", {mode} not measured" for mode in theirs if mode not in known)
    # Without both of them the better one is not known.
    return ours / known[best], f"{ours:,.0f} and {known[best]:,.0f} ({best}{missing})", not missing


def norm_share(logs, which=None):
    """Bytes/s of all batch norms of a step, as often as the model has them, over those of a copy."""
    rows = [r for r in logs.rows("op-norm.jsonl") if r.get("count") and r.get("share_of_copy")]
    rows = [r for r in rows if not which or r["pass"] == which]
    seconds = sum(r["count"] * r["milliseconds"] for r in rows)
    return sum(r["count"] * r["milliseconds"] * r["share_of_copy"] for r in rows) / seconds if seconds else None


def parts(logs, name, good):
    """Whether all runs of programs' parts ended as they should, and what became of the others."""
    rows = logs.rows(name)
    if not rows:
        return None
    wanted = sum(r.get("runs", 0) for r in rows)
    done = [r for r in rows if "result" in r]
    well = sum(r["result"] == good for r in done)
    others = [" ".join([*([r["tool"]] if "tool" in r else []), f"{r['program']} ({r['cases']}): {r['result']}"]) for r in done
              if r["result"] != good]
    if len(done) < wanted:
        others.append(f"no time for {wanted - len(done)}")
    return well == wanted, "; ".join([f"{well} of {wanted} runs of programs' parts: {good}", *others])


def bits(logs, run):
    rows = [r for r in logs.rows("bits.jsonl") if r["run"] == run]
    if not rows:
        return None
    return all(r["equal"] for r in rows), ", ".join(f"{r['precision']}: {'equal' if r['equal'] else 'not equal'}" for r in rows)


def mish_over_relu(logs):
    seconds = {r["activation"]: r["step_seconds"] for r in logs.rows("step-256.jsonl")}
    return seconds["mish"] / seconds["relu"] if {"mish", "relu"} <= seconds.keys() else None


def imagewoof(logs, recipe, key):
    for row in logs.rows("imagewoof.json"):
        if row["recipe"] == recipe:
            count = len(row["runs"])
            return (row[key], row["remark"], count >= 5) if key == "accuracy_mean" else (row[key], f"median of {count}")
    return None


def judged(measure, target, found, least=None, most=None, unit="", form=",.0f"):
    """A row of the table. found: None, a number, (number, remark), (number, remark, whether that is enough to judge by), or
    (whether it is met, text)."""
    row = {"measure": measure, "target": target, "value": None, "shown": "not measured", "met": None}
    if found is None:
        return row
    found = found if isinstance(found, tuple) else (found, "")
    if isinstance(found[0], bool):
        return row | {"value": found[0], "shown": found[1], "met": found[0]}
    value, remark, enough = (*found, True)[:3]
    shown = f"{value:{form}}{unit}" + (f" ({remark})" if remark else "")
    return row | {"value": value, "shown": shown,
                  "met": (value >= least if least is not None else value <= most) if enough else None}


def targets(logs, h200):
    """Rates and times are judged on an H200 alone."""
    rows = [
        judged("every op against the reference in double (float 1e-5, TF32 1e-3, bf16 1e-2)", "all tests pass",
               parts(logs, "tests.jsonl", "passed")),
        judged("compute-sanitizer on weft's kernels, memcheck and racecheck", "clean", parts(logs, "sanitizer.jsonl", "clean"))]
    for batch, least in ((256, 22000), (64, 18000)):
        rate = weft_rate(logs, batch)
        rows.append(judged(f"images/s, batch {batch}", f"{least:,}", rate and (rate, "", h200), least))
    for batch, least in ((256, 1.3), (64, 1.6)):
        rows.append(judged(f"the same over the better of PyTorch's two, batch {batch}", f"{least}", over_pytorch(logs, batch), least,
                           form=".2f"))
    share = norm_share(logs)
    wall = imagewoof(logs, "default", "wall_seconds_median")
    passes = [f"{which} {s:.2f}" for which in ("forward", "backward") if (s := norm_share(logs, which)) is not None]
    rows += [
        judged("batch norm + Mish, bytes/s over the copy rate, batch 256", "0.85", share and (share, ", ".join(passes)), 0.85,
               form=".2f"),
        judged("time of a step with Mish over one with ReLU, batch 256", "at most 1.01", mish_over_relu(logs), most=1.01, form=".3f"),
        judged("ImageWoof, MXResNet50, 5 epochs with validation, wall time of the process", "at most 15 s",
               wall and (*wall, h200), most=15, unit=" s", form=".1f"),
        judged("ImageWoof, validation accuracy, default recipe, mean of seeds", "71.9 %",
               imagewoof(logs, "default", "accuracy_mean"), 71.9, unit=" %", form=".2f"),
        judged("ImageWoof, validation accuracy, best recipe, mean of seeds", "76.6 %",
               imagewoof(logs, "best", "accuracy_mean"), 76.6, unit=" %", form=".2f"),
        judged("deterministic mode: weights of two runs", "bit-equal", bits(logs, "second")),
        judged("deterministic mode: weights with a captured graph and without", "bit-equal", bits(logs, "eager"))]
    return rows


def more(logs):
    """Figures without a target."""
    rows = []
    for batch in (64, 128, 256):
        for eager in (False, True):
            if rate := weft_rate(logs, batch, eager):
                rows.append((f"weft, images/s, batch {batch}, {'eager' if eager else 'captured'}", f"{rate:,.0f}", rate))
        for mode in ("eager", "compile"):
            if rate := pytorch_rate(logs, batch, mode):
                rows.append((f"PyTorch, images/s, batch {batch}, {mode}", f"{rate:,.0f}", rate))
    for row in logs.rows("optimizer.jsonl"):
        if row.get("optimizer") == "ranger":
            rows.append(("Ranger, bytes/s over the copy rate", f"{row['share_of_copy']:.2f}", row["share_of_copy"]))
    copies = [r["copy_gigabytes_per_second"] for r in logs.rows("op-norm.jsonl") if r.get("copy_gigabytes_per_second")]
    if copies:
        rows.append(("copy rate, GB/s read and written", f"{max(copies):,.0f}", max(copies)))
    products = [r["gflops"] for r in logs.rows("gemm.jsonl") if r.get("gflops")]
    if products:
        rows.append(("largest rate of a bf16 matrix product, TFLOP/s", f"{max(products) / 1e3:,.0f}", max(products) / 1e3))
    return [{"measure": measure, "shown": shown, "value": value} for measure, shown, value in rows]


def markdown(machine, target_rows, more_rows, stages):
    torch = f", PyTorch {machine['torch']}" if machine.get("torch") else ""
    driver = f" ({machine['memory']}), driver {machine['driver']}" if machine["driver"] else ""
    lines = [f"weft on {machine['device']}{driver}{torch}; {machine['cores']} cores; "
             f"{machine['date']}; commit {machine['commit']}", "",
             "MXResNet50 with self-attention, Mish and Ranger, 128 px, bf16, unless said otherwise. The targets are for one H200.", "",
             "| measure | target | measured | met |", "|---|---|---|---|"]
    met = {True: "yes", False: "**no**", None: "-"}
    lines += [f"| {r['measure']} | {r['target']} | {r['shown']} | {met[r['met']]} |" for r in target_rows]
    if more_rows:
        lines += ["", "| further figures | |", "|---|---|", *(f"| {r['measure']} | {r['shown']} |" for r in more_rows)]
    lines += ["", "| stage | result | seconds | when, and of which commit |", "|---|---|---|---|"]
    lines += [f"| {s['stage']} | {s['result']}{': ' * bool(s.get('remark'))}{s.get('remark', '')} | {s['seconds']} | {s.get('when', '-')} |" for s in stages]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path, help="write the table there and not to standard output")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    logs = Logs(args.logs)
    machine = (logs.rows("machine.json") or sys.exit(f"table: there is no machine.json in {args.logs}"))[0]
    machine["torch"] = next((r["torch"] for mode in ("eager", "compile") for r in logs.rows(f"pytorch-{mode}.jsonl")), None)
    result = {"machine": machine, "targets": targets(logs, "H200" in machine["device"]), "more": more(logs), "stages": logs.stages()}
    text = markdown(machine, result["targets"], result["more"], result["stages"])
    if args.markdown:
        args.markdown.write_text(text)
    else:
        print(text, end="")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
