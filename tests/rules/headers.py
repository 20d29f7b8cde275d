"""Each header below src/ compiles alone, without a warning, with GCC and with Clang. Arguments: the project's flags."""
import subprocess
import sys

import tree

FLAGS = [flag for flag in sys.argv[1:] if flag.startswith(("-W", "-D"))]


def compile_alone(job):
    compiler, header = job
    command = [compiler, "-std=gnu17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *FLAGS, "-Isrc", "-x", "c", "-"]
    if "clang" in compiler:
        command[1:1] = ["-Wno-unknown-warning-option", *tree.GNU]
    inner = header.removeprefix("src/")
    # Twice: an include guard that does not work shows at the second.
    text = f'#include "{inner}"\n#include "{inner}"\nstatic int used __attribute__((unused));\n'
    done = subprocess.run(command, cwd=tree.ROOT, input=text, capture_output=True, text=True)
    return None if done.returncode == 0 else f"{header} ({compiler}):\n{done.stderr}"


compilers = [name for name in (tree.tool("gcc", "cc"), tree.tool("clang-14", "clang")) if name]
if not compilers:
    sys.exit(tree.SKIP)
jobs = [(compiler, header) for compiler in compilers for header in tree.files(".h", under="src/")]
tree.finish([problem for problem in tree.each(compile_alone, jobs) if problem], "headers with " + " and ".join(compilers))
