#!/usr/bin/env python3
"""Builds the fuzz harnesses with Clang for libFuzzer and the address sanitizer, and runs each for a moment.

    libfuzzer.py [NAME...]     all harnesses, or these ("boot", "exec")

The harnesses' own driver tries random inputs; libFuzzer changes those that reach new code. STRATA_FUZZ_SECONDS says how
long each runs, but not more than CAP unless STRATA_TEST_LONG is set. An input that fails is left in
build/libfuzzer/findings. Exit status 77: Clang or its fuzzer library is missing.
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(ROOT, "build", "libfuzzer")
FINDINGS = os.path.join(BUILD, "findings")
CLANG = "clang-14"
CAP = 10
SKIP = 77
DETAIL = re.compile(r"^(==\d+==\s*ERROR|SUMMARY|.*runtime error|artifact_prefix|must: ).*", re.M)


def missing():
    if not shutil.which(CLANG):
        return f"{CLANG} is not installed"
    where = subprocess.run([CLANG, "-print-runtime-dir"], capture_output=True, text=True, check=True).stdout.strip()
    if not glob.glob(os.path.join(where, "libclang_rt.fuzzer-x86_64.a")):
        return "libclang-rt-14-dev is not installed"
    return None


def seconds():
    long_run = "STRATA_TEST_LONG" in os.environ
    wish = int(os.environ.get("STRATA_FUZZ_SECONDS", 60 if long_run else 5))
    return wish if long_run else min(wish, CAP)


def build():
    tools = dict(os.environ, CC=CLANG)
    for step in ([os.path.join(ROOT, "tools/configure"), "libfuzzer"], ["ninja", "-C", BUILD, "-j2", "fuzzers"]):
        done = subprocess.run(step, cwd=ROOT, env=tools, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(step)} failed:\n{done.stdout}{done.stderr}")


def harnesses(names):
    found = sorted(glob.glob(os.path.join(BUILD, "tests/fuzz/fuzz-*")))
    found = [path for path in found if os.access(path, os.X_OK) and os.path.isfile(path)]
    return [path for path in found if not names or os.path.basename(path)[len("fuzz-"):] in names]


def fuzz(path):
    """(passed, a line that says so or what was found)"""
    name = os.path.basename(path)
    command = [path, f"-max_total_time={seconds()}", "-max_len=4096", "-seed=1", "-timeout=20", "-print_final_stats=1",
               f"-artifact_prefix={FINDINGS}/{name}-"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds() + 120)
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if done.returncode == 0 and runs:
        return True, f"ok   {name}: {runs.group(1)} inputs in {seconds()} s"
    what = "\n".join(m.group(0) for m in DETAIL.finditer(done.stderr)) or done.stderr[-2000:]
    return False, f"FAIL {name}: {what}"


def main():
    why = missing()
    if why:
        print(f"skip: {why}")
        return SKIP
    build()
    os.makedirs(FINDINGS, exist_ok=True)
    failed = 0
    paths = harnesses(sys.argv[1:])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for passed, line in pool.map(fuzz, paths):
            failed += not passed
            print(line, flush=True)
    print(f"cases: {len(paths) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
