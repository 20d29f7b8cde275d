"""Each global symbol of a layer's library starts with the name of its folder, of one of its files, or of an object that
prefixes.txt lists for the layer. Argument: the build folder."""
import os
import re
import subprocess
import sys

import layers_table
import tree

BUILD = sys.argv[1]


def extra_prefixes():
    table = {}
    for line in tree.read("tests/rules/prefixes.txt").splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, _, words = line.partition(":")
            table[name.strip()] = words.split()
    return table


def symbols(library):
    done = subprocess.run(["nm", "-g", "--defined-only", library], capture_output=True, text=True)
    return sorted({m.group(1) for m in re.finditer(r"^[0-9a-f]+ [TDBRCW] ([A-Za-z_]\w*)$", done.stdout, re.M)})


def starts(symbol, prefixes):
    return any(symbol == prefix or symbol.startswith(prefix + "_") for prefix in prefixes)


extra = extra_prefixes()
problems = []
seen = 0
for layer in layers_table.table():
    short = layer.split("/")[-1]
    library = os.path.join(BUILD, "src", f"lib{short}.a")
    if not os.path.exists(library):
        continue
    stems = {os.path.splitext(os.path.basename(path))[0].removesuffix("_priv") for path in tree.files(".c", ".h", under=f"src/{layer}/")}
    prefixes = {short, *stems, *extra.get(layer, [])}
    for symbol in symbols(library):
        seen += 1
        if not starts(symbol, prefixes):
            problems.append(f"{layer}: {symbol} starts with the name of no file of its layer and of no object in prefixes.txt")
if not seen:
    sys.exit(tree.SKIP)
tree.finish(problems, "names")
