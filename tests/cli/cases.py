"""Runs the cases of a test: functions that raise if something is not as it should be.

A test that is given names behind its first argument runs only the cases whose names have one of them in it. Each case is
told with a line, and the last line counts them, as tools/run-tests reads it.
"""
import subprocess
import sys

SKIP = 77  # what Meson takes for "nothing of it could run"


class Skipped(Exception):
    """A case cannot run on this host, and why."""


def run(case):
    """What became of it, and why."""
    try:
        case()
        return "ok", ""
    except Skipped as why:
        return "skip", str(why)
    except (AssertionError, subprocess.TimeoutExpired, OSError, ValueError, KeyError) as problem:
        return "FAIL", f"{type(problem).__name__}: {problem}"


def main(cases):
    """The exit status."""
    count = dict.fromkeys(("ok", "FAIL", "skip"), 0)
    for case in cases:
        if len(sys.argv) > 2 and not any(part in case.__name__ for part in sys.argv[2:]):
            continue
        verdict, why = run(case)
        count[verdict] += 1
        print(f"{verdict:4} {case.__name__} {why}".rstrip(), flush=True)
    print("cases: {ok} passed, {FAIL} failed, {skip} skipped".format(**count))
    return 1 if count["FAIL"] else 0 if count["ok"] else SKIP
