"""What the rule tests share: the source root, the tracked files, and how a rule reports."""
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SKIP = 77  # the exit status that Meson counts as skipped

# The sources are gnu17: Clang warns of these extensions even so.
GNU = ["-Wno-gnu-zero-variadic-macro-arguments", "-Wno-gnu-variable-sized-type-not-at-end"]

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def files(*endings, under=""):
    """Paths of the project's files, relative to the root, sorted; never those of a build folder."""
    listed = tool("git") and subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True, text=True,
    )
    if listed and listed.returncode == 0:
        paths = [path for path in listed.stdout.split("\0") if path]
    else:  # an unpacked archive is no repository
        paths = [
            os.path.relpath(os.path.join(folder, name), ROOT)
            for folder, _, names in os.walk(ROOT) for name in names
        ]
        paths = [path for path in paths if not re.match(r"(build|\.git)[-/]", path)]
    return sorted(
        path for path in paths
        if path.startswith(under) and path.endswith(endings or ("",)) and os.path.isfile(os.path.join(ROOT, path))
    )


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as stream:
        return stream.read()


def tool(*names):
    """The first of these programs that is installed, or None."""
    return next((name for name in names if shutil.which(name)), None)


def each(function, items):
    """The results of function for each item, side by side: the work is in child processes."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(function, items))


def finish(problems, what):
    """Prints one line a problem and ends the test."""
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems in {what}" if problems else f"{what}: all well")
    sys.exit(1 if problems else 0)
