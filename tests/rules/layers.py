"""Each #include below src/ is one that layers.txt allows, and layers.txt has no cycle."""
import os
import re

import layers_table
import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def layer_of(path, layers):
    """The longest layer that is a leading part of a path relative to src/."""
    parts = os.path.dirname(path).split("/")
    for length in range(len(parts), 0, -1):
        if "/".join(parts[:length]) in layers:
            return "/".join(parts[:length])
    return None


def cycle(layers):
    """A cycle as a list of names, or None."""
    done = set()

    def visit(name, trail):
        if name in trail:
            return trail[trail.index(name):] + [name]
        if name in done:
            return None
        for other in layers.get(name, []):
            found = visit(other, trail + [name])
            if found:
                return found
        done.add(name)
        return None

    for name in layers:
        found = visit(name, [])
        if found:
            return found
    return None


def check_include(path, target, layers):
    """A problem with one include of one file, or None. path and target are relative to src/."""
    place = os.path.join(tree.ROOT, "src", target)
    if not os.path.exists(place) and not os.path.exists(place + ".in"):  # or made from a template
        return f"src/{path}: \"{target}\" is not a path below src/"
    mine, theirs = layer_of(path, layers), layer_of(target, layers)
    if theirs is None:
        return f"src/{path}: \"{target}\" belongs to no layer"
    if mine != theirs and theirs not in layers[mine]:
        return f"src/{path}: layer {mine} may not include {theirs} (\"{target}\")"
    if target.endswith("_priv.h") and os.path.dirname(path) != os.path.dirname(target):
        return f"src/{path}: \"{target}\" is private to its folder"
    return None


layers = layers_table.table()
problems = [
    f"layers.txt: {name} may include {other}, which is no layer"
    for name, may in layers.items() for other in may if other not in layers
]
found = cycle(layers)
if found:
    problems.append("layers.txt: cycle " + " -> ".join(found))
for path in tree.files(".c", ".h", under="src/"):
    inner = path.removeprefix("src/")
    if layer_of(inner, layers) is None:
        problems.append(f"{path}: its folder is no layer in layers.txt")
        continue
    problems += filter(None, (check_include(inner, target, layers) for target in INCLUDE.findall(tree.read(path))))
tree.finish(problems, "layers")
