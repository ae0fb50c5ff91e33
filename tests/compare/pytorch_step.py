#!/usr/bin/env python3
"""A whole training step, or a forward pass, in PyTorch and in weft, in turns: images/s, their ratio, and peak resident memory.

    tests/compare/pytorch_step.py --weft build/apps/weft --model mxresnet18 --size 128 --batch-size 32
    tests/compare/pytorch_step.py --weft build/apps/weft --inference --batch-size 1 --steps 30
    tests/compare/pytorch_step.py --weft build/apps/weft --model mxresnet50 --precision bf16    # PyTorch: autocast

Every program runs in a process of its own. For the speed they stay alive and take turns: some steps of weft, then some of each
mode of PyTorch, and again. The memory is the most that a fresh process of each had resident for a few steps, interpreter and
libraries included. Needs torch; nothing else.
"""

import argparse
import statistics
import subprocess
import sys

import report

MODES = ["channels_last", "nchw", "compiled"]


def parse():
    parser = report.parser(__doc__, rounds=5)
    parser.add_argument("--weft", default="build/apps/weft", help="the weft command")
    parser.add_argument("--model", default="mxresnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--activation", default="mish")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--no-sa", action="store_true", help="leave the self-attention out")
    parser.add_argument("--inference", action="store_true", help="forward passes in evaluation mode in place of steps")
    parser.add_argument("--steps", type=int, default=3, help="steps of each in a round")
    parser.add_argument("--modes", default=",".join(MODES), help="of PyTorch, some of " + ",".join(MODES))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--worker", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.modes.split(",")) - set(MODES):
        parser.error(f"--modes: unknown {', '.join(sorted(unknown))}; known are {', '.join(MODES)}")
    return args


def work(args):
    """A PyTorch process: for each line with a number on standard input, that many steps after one that does not count; answers with their seconds."""
    import torch

    import pytorch_model

    torch.set_num_threads(args.threads)
    step = pytorch_model.training_step(args.model, args.worker, not args.no_sa, args.activation, args.batch_size, args.size,
                                       args.inference, args.precision)
    for _ in range(3):
        step()
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        step()  # unmeasured: wakes threads and caches after the others' turn
        print(*(pytorch_model.seconds_of(step) for _ in range(int(line))), flush=True)


class Worker:
    def __init__(self, args, mode):
        flags = [f"--worker={mode}", f"--model={args.model}", f"--size={args.size}", f"--batch-size={args.batch_size}",
                 f"--activation={args.activation}", f"--threads={args.threads}", f"--precision={args.precision}"]
        flags += ["--no-sa"] * args.no_sa + ["--inference"] * args.inference
        self.process = subprocess.Popen([sys.executable, __file__, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.mode, self.seconds = mode, []
        ready = self.process.stdout.readline().split()
        if len(ready) != 2:
            sys.exit(f"pytorch_step: PyTorch ({mode}) did not start; its message is above")
        self.version = ready[1]

    def run(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        self.seconds += map(float, self.process.stdout.readline().split())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def weft_flags(args, steps):
    return ["step", "--model", args.model, "--size", args.size, "--batch-size", args.batch_size, "--activation", args.activation,
            "--threads", args.threads, "--precision", args.precision, "--optimizer", "ranger", "--steps", steps,
            *["--sa"] * (not args.no_sa), *["--inference"] * args.inference]


def peak_memory(command, stdin=None):
    """Peak resident bytes of a process of its own: the largest child of a child that runs nothing else."""
    code = ("import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[2:], input=sys.argv[1], text=True, check=True, stdout=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    out = subprocess.run([sys.executable, "-c", code, stdin or "", *map(str, command)], check=True, capture_output=True, text=True)
    return int(out.stdout) * (1 if sys.platform == "darwin" else 1024)


def main():
    args = parse()
    if args.worker:
        return work(args)
    modes = args.modes.split(",")
    workers = [Worker(args, mode) for mode in modes]
    weft_seconds, weft_row = [], None
    for _ in range(args.rounds):
        weft_row = report.weft_rows(args.weft, *weft_flags(args, args.steps))[0]
        weft_seconds.append(weft_row["step_seconds"])  # the median of the round's steps, three unmeasured ones before
        for worker in workers:
            worker.run(args.steps)
    for worker in workers:
        worker.close()

    weft_rate = args.batch_size / statistics.median(weft_seconds)
    rows = [{"program": f"weft ({weft_row['kernels']})", "images/s": weft_rate,
             "of FMA peak": weft_row["share_of_peak"] * weft_rate / weft_row["images_per_second"], "weft over it": 1.0}]
    for worker in workers:
        rate = args.batch_size / statistics.median(worker.seconds)
        rows.append({"program": f"PyTorch {worker.version}, {worker.mode}", "images/s": rate,
                     "of FMA peak": rows[0]["of FMA peak"] * rate / weft_rate, "weft over it": weft_rate / rate})
    memory = ""
    if not args.no_memory:
        rows[0]["peak MB"] = peak_memory([args.weft, "bench", *weft_flags(args, 1)]) * 1e-6
        for worker, row in zip(workers, rows[1:]):
            flags = [sys.executable, __file__, f"--worker={worker.mode}", *sys.argv[1:]]
            row["peak MB"] = peak_memory(flags, "1\n") * 1e-6
            row["weft's memory over it"] = rows[0]["peak MB"] / row["peak MB"]
        memory = f"; importing torch alone takes {peak_memory([sys.executable, '-c', 'import torch']) * 1e-6:.0f} MB"
    best = max(rows[1:], key=lambda r: r["images/s"])
    title = (f"{args.model}{'' if args.no_sa else ' with attention'} ({args.activation}), {args.size} px, batch {args.batch_size}, "
             f"{'inference' if args.inference else 'Ranger'}, {args.precision}, {args.threads} threads; {report.machine()}; "
             f"{report.weft_version(args.weft)}; medians of {args.rounds} rounds of {args.steps} steps in turns. weft over PyTorch's best ({best['program']}): {best['weft over it']:.2f}{memory}")
    for row in rows:
        row.update(model=args.model, size=args.size, batch_size=args.batch_size, threads=args.threads)
    report.print_table(title, {"program": "", "images/s": ".1f", "of FMA peak": ".2f", "weft over it": ".2f", "peak MB": ".0f",
                               "weft's memory over it": ".2f"}, rows, args.json)


if __name__ == "__main__":
    main()
