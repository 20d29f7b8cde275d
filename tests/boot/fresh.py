#!/usr/bin/env python3
"""The README's first command, `make run`, by a user who has just been given an account: to a Debian login prompt, with no other step.

    fresh.py SECONDS

For continuous integration and long runs: it compiles everything and builds the image from Debian's packages. The account is in files of a mount name space's own, its home is empty, and what the sources'
repository ignores is not there. Packages that tools/deps would install must be there already, since the account has no rights; it has subordinate ids, as
adduser gives them. Needs root to make an account; skips (77) without, and where user name spaces or the packages are missing.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import guest
from home import MISSING

USER, ID = "fresh", 47110
FILES = {"passwd": f"{USER}:x:{ID}:{ID}::/home/{USER}:/bin/sh\n", "group": f"{USER}:x:{ID}:\n", "subuid": f"{USER}:1000000:65536\n", "subgid": f"{USER}:1000000:65536\n"}
# In a mount and a PID name space: others see nothing of it, and nothing outlives it. What root has is not there.
SCRIPT = f"""
set -e
for file in passwd group subuid subgid; do mount --bind "$1/$file" /etc/$file; done
mount --bind "$1/home" /home
mount -t tmpfs none /root
cd /home/{USER}/strata
exec setpriv --reuid={ID} --regid={ID} --init-groups env -i HOME=/home/{USER} USER={USER} LOGNAME={USER} PATH=/usr/local/bin:/usr/bin:/bin make run
"""


def prepare(work):
    for file, line in FILES.items():
        path = Path("/etc") / file
        (work / file).write_text((path.read_text() if path.exists() else "") + line)
    sources = work / "home" / USER / "strata"
    sources.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=guest.ROOT, capture_output=True, check=True).stdout
    subprocess.run(["cp", "--parents", "-P", "--preserve=mode", "-t", sources, *filter(None, listed.decode().split("\0"))], cwd=guest.ROOT, check=True)
    subprocess.run(["chown", "-R", f"{ID}:{ID}", work / "home" / USER], check=True)
    work.chmod(0o755)


def main():
    seconds = float(sys.argv[1])
    if not guest.LONG and not os.environ.get("CI"):
        guest.skip("some minutes: STRATA_TEST_LONG=1 or CI=1 runs it")
    if os.geteuid() or not shutil.which("setpriv"):
        guest.skip("only root can make an account, by setpriv")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        prepare(Path(folder))
        started = time.monotonic()
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT, "sh", folder],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
        took = time.monotonic() - started
        text = guest.ESCAPES.sub("", done.stdout.decode(errors="replace"))
        # Files of the image in the making belong to ids that only its name space had.
        shutil.rmtree(f"{folder}/home", ignore_errors=True)
    if done.returncode and any(word in text.split("\n")[-2] for word in MISSING):
        guest.skip(text.strip().split("\n")[-1])
    problems = guest.forbidden(text)
    if done.returncode or not re.search(r"^run-\d+ login:", text, re.M):
        problems.append(f"exit status {done.returncode}")
    print(text[-6000:] if problems else "", *problems, f"a login prompt, and off again, after {took:.0f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
