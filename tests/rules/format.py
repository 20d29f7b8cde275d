"""The sources are formatted as .clang-format says (`make fmt` does it)."""
import subprocess
import sys

import tree

CLANG_FORMAT = tree.tool("clang-format-14", "clang-format")


def differs(path):
    done = subprocess.run([CLANG_FORMAT, "--dry-run", "-Werror", "-ferror-limit=1", path], cwd=tree.ROOT, capture_output=True)
    return None if done.returncode == 0 else f"{path}: not formatted"


if not CLANG_FORMAT:
    sys.exit(tree.SKIP)
tree.finish([problem for problem in tree.each(differs, tree.files(".c", ".h")) if problem], "formatting")
