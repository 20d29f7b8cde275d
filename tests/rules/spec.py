"""Each promise in SPEC.md names, in its last column, a file or a test that exists. Argument: the build folder."""
import json
import os
import re
import subprocess
import sys

import tree


def test_names(build):
    done = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True)
    return {test["name"] for test in json.loads(done.stdout)} if done.returncode == 0 else set()


def rows():
    """(line number, cells) of each table row that is not a heading or a rule."""
    for number, line in enumerate(tree.read("SPEC.md").splitlines(), 1):
        if line.startswith("|") and not re.match(r"\|\s*(-|promise\b)", line):
            yield number, [cell.strip() for cell in line.strip("|").split("|")]


names = test_names(sys.argv[1])
problems = []
for number, cells in rows():
    if len(cells) != 3:
        problems.append(f"SPEC.md:{number}: a row has three columns: promise, value, shown by")
        continue
    shown = re.findall(r"`([^`]+)`", cells[2])
    if not shown:
        problems.append(f"SPEC.md:{number}: nothing shows \"{cells[0]}\"")
    for name in shown:
        if name not in names and not os.path.exists(os.path.join(tree.ROOT, name)):
            problems.append(f"SPEC.md:{number}: `{name}` is neither a file nor a test")
tree.finish(problems, "SPEC.md")
