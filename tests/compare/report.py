"""What the comparisons share: flags, the machine and the versions, weft's JSON lines, and tables."""

import argparse
import json
import os
import platform
import subprocess


def parser(doc, rounds):
    """With the flags that all comparisons in turns have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--json", action="store_true")
    return made


def machine():
    name = platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            name = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def weft_version(weft):
    return subprocess.run([weft, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def weft_rows(weft, *arguments):
    """The JSON lines that a benchmark of weft prints."""
    out = subprocess.run([weft, "bench", *map(str, arguments), "--json"], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def print_table(title, columns, rows, as_json):
    """columns: {key: format}; rows: dictionaries. A Markdown table, or a JSON object a line."""
    if as_json:
        for row in rows:
            print(json.dumps({"title": title, **row}))
        return
    print(f"{title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(format(row[k], f) if k in row and row[k] is not None else "-" for k, f in columns.items()) + " |")
