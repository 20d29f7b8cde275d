"""The documents tell the truth about the tree: the paths they name exist, links lead somewhere, and each layer has a README
with the fixed headings."""
import os
import re

import layers_table
import tree

HEADINGS = ["Purpose", "Main structs", "Threads and locks", "How to add one", "Tests", "Not done"]
TOP = ("src/", "tests/", "tools/", "bench/", "docs/", ".ci/")
NAMED = re.compile(r"`([\w.][\w./-]*)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")


def exists(*parts):
    return os.path.exists(os.path.join(tree.ROOT, *parts))


problems = []
for document in tree.files(".md"):
    text, folder = tree.read(document), os.path.dirname(document)
    for name in NAMED.findall(text):
        if name.startswith(TOP) and not exists(name):
            problems.append(f"{document}: `{name}` does not exist")
    for link in LINK.findall(text):
        if not exists(folder, link):
            problems.append(f"{document}: link to {link} leads nowhere")

for folder in [f"src/{layer}" for layer in layers_table.table()]:
    if not tree.files(".c", ".h", under=folder + "/"):
        continue  # a layer that is still only a name
    readme = f"{folder}/README.md"
    if not exists(readme):
        problems.append(f"{readme} is missing")
        continue
    found = re.findall(r"^## (.*)$", tree.read(readme), re.M)
    if found != HEADINGS:
        problems.append(f"{readme}: headings are {found}, not {HEADINGS}")
tree.finish(problems, "documents")
