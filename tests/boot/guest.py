"""What the boot tests share: kernels, initramfs archives, and a machine whose console the test reads and types on."""
import os
import re
import select
import signal
import stat
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDER = f"{ROOT}/build/guest"
LONG = bool(os.environ.get("STRATA_TEST_LONG"))
SKIP = 77
NOT_POSSIBLE_HERE = 3  # strata's exit status
# No kernel says any of these when all is well.
FORBIDDEN = ["Kernel panic", "BUG:", "Oops", "Call Trace", "WARNING:", "unchecked MSR access", "rcu: INFO", "soft lockup"]
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()]B|[=>])|\r")

sys.dont_write_bytecode = True


class Failed(Exception):
    pass


def own_tap(address):
    """Runs this program again in user and network name spaces of its own, and returns None within them, where tap0 has the address; or why there are none."""
    inside = "STRATA_TEST_NAMESPACE"
    if os.environ.get(inside):
        for command in ("tuntap add dev tap0 mode tap", f"address add {address} dev tap0", "link set tap0 up", "link set lo up"):
            subprocess.run(["ip", *command.split()], check=True)
        return None
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    tried = subprocess.run([*unshare, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap"], capture_output=True, text=True)
    if tried.returncode:
        return tried.stderr.strip()
    os.execvpe("unshare", [*unshare, sys.executable, *sys.argv], os.environ | {inside: "1"})


def skip(why):
    print("skipped:", why)
    sys.exit(SKIP)


def tool(name, *args):
    """Runs one of tools/ and returns what it prints; where it cannot do its work, the test is skipped."""
    done = subprocess.run([f"{ROOT}/tools/{name}", *args], capture_output=True, text=True)
    if done.returncode:
        skip(done.stderr.strip())
    return done.stdout.strip()


def kernel(flavour):
    return tool("fetch-kernel", flavour, FOLDER)


def make_initramfs():
    return SourceFileLoader("make_initramfs", f"{ROOT}/tools/make-initramfs").load_module()


def busybox():
    """A static one."""
    os.makedirs(FOLDER, exist_ok=True)
    return make_initramfs().find_busybox(Path(FOLDER))


def initramfs(name, files=()):
    """tools/make-initramfs with more files, {name: content}, in a second archive: the kernel unpacks one after the other."""
    path = f"{FOLDER}/{name}.cpio"
    tool("make-initramfs", path)
    more = make_initramfs().Newc()
    for folder in sorted({os.path.dirname(file) for file in files if "/" in file}):
        more.add(folder, stat.S_IFDIR | 0o755)
    for file, content in dict(files).items():
        more.add(file, stat.S_IFREG | 0o755, content)
    with open(path, "ab") as archive:
        archive.write(more.finish())
    return path


def modules(kernel, names):
    """Those of the kernel's modules, {name: content}, with what they need before them; built-in ones are in no file."""
    found = {path.stem.replace("-", "_"): path for path in (Path(kernel).parent / "lib/modules").rglob("*.ko")}
    files = {}

    def add(name):
        name = name.replace("-", "_")
        if name not in found or any(file.endswith(f"-{name}.ko") for file in files):
            return
        content = found[name].read_bytes()
        for needed in re.search(rb"\0depends=([^\0]*)\0", content).group(1).decode().split(","):
            add(needed)
        files[f"modules/{len(files):02}-{name}.ko"] = content

    for name in names:
        add(name)
    return files


def forbidden(text):
    return [f"in the output: {word!r}" for word in FORBIDDEN if word in text]


class Guest:
    """A running machine. Everything must be over within `seconds`; what is not raises Failed, and so does an early end."""

    def __init__(self, command, seconds, env=None):
        self.started, self.deadline = time.monotonic(), time.monotonic() + seconds
        self.machine = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=env)
        self.raw, self.seen = b"", 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.machine.poll() is None:
            os.killpg(self.machine.pid, signal.SIGKILL)
        self.machine.communicate()

    @property
    def text(self):
        return ESCAPES.sub("", self.raw.decode(errors="replace"))

    def took(self):
        return time.monotonic() - self.started

    def read(self):
        """What has come; False at the end of the output."""
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.machine.stdout], [], [], left)[0]:
            raise Failed("takes too long")
        data = os.read(self.machine.stdout.fileno(), 65536)
        self.raw += data
        return bool(data)

    def wait_for(self, pattern):
        """The first match in what nobody has waited for yet."""
        while not (found := re.compile(pattern, re.M).search(self.text, self.seen)):
            if not self.read():
                raise Failed(f"ended with {self.machine.wait()} before {pattern!r}")
        self.seen = found.end()
        return found

    def type(self, line):
        self.machine.stdin.write(line.encode() + b"\n")
        self.machine.stdin.flush()

    def shell(self, command, prompt):
        """(status, output) of a command at a shell's prompt."""
        self.wait_for(prompt)
        # The echo of what was typed does not match.
        self.type(f"{command}; echo \"=\"\"end $?\"")
        self.wait_for(r'end \$\?"\n')
        begin = self.seen
        end = self.wait_for(r"^=end (\d+)\n")
        return int(end[1]), self.text[begin:end.start()]

    def cannot(self):
        """It has ended because the host cannot run it. A guest that writes 1 to the debug-exit port (a command's status) gives the
        same exit status; but it has said something before."""
        return self.machine.poll() == NOT_POSSIBLE_HERE and all(line.startswith("strata: ") for line in self.text.strip().split("\n"))

    def end(self):
        """Its exit status, once all output is there."""
        while self.read():
            pass
        return self.machine.wait()

    def end_well(self, expected=0):
        """What is wrong with how it ends, as a list; the test is skipped where the host cannot run it."""
        status = self.end()
        if self.cannot():
            skip(self.text.strip())
        return [] if status == expected else [f"exit status {status}, not {expected}"]

    def report(self, problems, what, expected=(), unwanted=()):
        """Adds what its output says or leaves out to the problems, and prints them: with the output, if there are any."""
        problems += forbidden(self.text)
        problems += [f"missing in the output: {text!r}" for text in expected if text not in self.text]
        problems += [f"in the output: {text!r}" for text in unwanted if text in self.text]
        if problems:
            print(self.text)
        print(*problems, f"{what}: {self.took():.1f} s", sep="\n")
