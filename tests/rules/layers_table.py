"""layers.txt as a dictionary: layer -> the layers it may include."""
import tree


def table():
    layers = {}
    for line in tree.read("layers.txt").splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, _, may = line.partition(":")
            layers[name.strip()] = may.split()
    return layers
