"""Small things no file may have: left-overs, merge marks, blanks at line ends, paths of somebody's machine."""
import re

import tree

RULES = [
    (re.compile(r"\b(TO[D]O|FI[X]ME|XX[X]|HA[C]K)\b(?! ?\(?#\d)"), "a left-over without an issue number"),
    (re.compile(r"^(<{7}|>{7}) ", re.M), "a merge mark"),
    (re.compile(r"[ \t]+$", re.M), "blanks at a line's end"),
    (re.compile(r"\r"), "a carriage return"),
    (re.compile(r"(?<![\w.$}~/-])/(home|root|Users|work|farm|mnt|opt)/\w"), "a path of one machine"),
]
TEXT = (".c", ".h", ".S", ".asm", ".py", ".build", ".md", ".txt", "Makefile", ".sh")

problems = []
for path in tree.files(*TEXT) + tree.files(under="tools/") + tree.files(under=".ci/") + tree.files(under="bench/"):
    text = tree.read(path)
    for pattern, what in RULES:
        match = pattern.search(text)
        if match:
            problems.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {what}")
tree.finish(sorted(set(problems)), "tidiness")
