"""A user with a home of his own, and what strata's commands say to him; Debian's image in it."""
import json
import os
import subprocess
import time

import guest

MISSING = ("is missing", "network", "mirror", "subordinate", "name spaces")


class Home:
    """What the commands of one user say."""

    def __init__(self, strata, folder):
        self.strata = strata
        self.env = os.environ | {"HOME": folder, "XDG_STATE_HOME": f"{folder}/state", "XDG_DATA_HOME": f"{folder}/data"}

    def __call__(self, *args, status=0, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run([self.strata, *args], env=self.env, capture_output=True, **kwargs)
        if done.returncode != status:
            raise guest.Failed(f"{args}: exit status {done.returncode}: {done.stderr.decode()}{done.stdout.decode()}")
        return done.stdout.decode()

    def state(self, name):
        return {row["name"]: row for row in json.loads(self("ls", "--json"))}[name]


def build(home):
    started = time.monotonic()
    done = subprocess.run([home.strata, "image", "build", "debian:12"], env=home.env, capture_output=True, text=True)
    if done.returncode and any(word in done.stderr for word in MISSING):
        guest.skip(done.stderr.strip())
    if done.returncode:
        raise guest.Failed(done.stderr)
    print(f"image built after {time.monotonic() - started:.1f} s")
