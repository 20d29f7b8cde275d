"""Each source below src/ compiles with Clang without a warning. Arguments: the build folder, where generated
headers are, and the project's flags."""
import os
import subprocess
import sys

import tree

# -fno and -f options matter to code generation here, except those of the other compiler.
FLAGS = [flag for flag in sys.argv[2:] if flag.startswith(("-W", "-D", "-f", "-m")) and "auto-var-init" not in flag]
BUILD = os.path.abspath(sys.argv[1])
CLANG = tree.tool("clang-14", "clang")


def compile_source(path):
    command = [CLANG, "-std=gnu17", "-O1", "-c", "-o", "/dev/null", "-Wall", "-Wextra", "-Wthread-safety", "-Werror",
               "-Wno-unknown-warning-option", *tree.GNU, *FLAGS, "-Isrc", f"-I{BUILD}/src", path]
    done = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True)
    return None if done.returncode == 0 else f"{path}:\n{done.stderr}"


if not CLANG:
    sys.exit(tree.SKIP)
tree.finish([problem for problem in tree.each(compile_source, tree.files(".c", under="src/")) if problem], f"sources with {CLANG}")
