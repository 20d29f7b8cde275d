#!/usr/bin/env python3
"""Another system than the 64-bit kernels of the other tests: Debian's installer for i386, a 32-bit kernel and a userland of its own,
boots from a disk by SeaBIOS and GRUB, finds its devices, and uses a disk and the network (installer.sh).

    installer.py STRATA ENGINE SECONDS ide|virtio

With IDE disks and an e1000, or with virtio's. With STRATA_TEST_LONG=1 only. Skips (77) where the installer cannot be had.
"""
import hashlib
import http.server
import os
import random
import stat
import sys
import tempfile
import threading
from pathlib import Path

import guest

MIB = 1 << 20
SIZE = 32 * MIB  # of the disk that the guest uses
# The disks' driver, what the PCI functions and their drivers are to be, and the network device.
KINDS = {"ide": ("ata_piix", ["0x8086 0x7010 ata_piix", "0x8086 0x100e e1000"], "e1000"),
         "virtio": ("virtio_blk", ["0x1af4 0x1042 virtio-pci", "0x1af4 0x1041 virtio-pci"], "virtio")}
# What the installer does when it begins.
ANSWERS = "d-i preseed/early_command string sh /installer.sh {}\n"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


def serve(content):
    """The port of the host at which there is a page with that content."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.content = content
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def make_initrd(path, installer, driver, arguments):
    """The installer's, and behind it an archive of ours: kernels unpack one after the other, each from a multiple of four."""
    more = guest.make_initramfs().Newc()
    more.add("preseed.cfg", stat.S_IFREG | 0o644, ANSWERS.format(arguments).encode())
    more.add("installer.sh", stat.S_IFREG | 0o755, Path(__file__).with_name("installer.sh").read_bytes())
    more.add("modules", stat.S_IFDIR | 0o755)
    for name, module in guest.modules(installer / "linux", [driver]).items():
        more.add(name, stat.S_IFREG | 0o644, module)
    initrd = (installer / "initrd.gz").read_bytes()
    path.write_bytes(initrd + bytes(-len(initrd) % 4) + more.finish())


def main():
    if not guest.LONG:
        guest.skip("only with STRATA_TEST_LONG=1: it takes minutes")
    strata, engine, seconds, kind = sys.argv[1:5]
    driver, functions, model = KINDS[kind]
    installer = Path(guest.tool("fetch-installer", guest.FOLDER))
    content = random.Random(3).randbytes(8 * MIB)
    problems = []
    with tempfile.TemporaryDirectory() as work:
        boot, data = Path(work, "boot"), Path(work, "data")
        data.write_bytes(content)
        os.truncate(data, SIZE)
        make_initrd(Path(work, "initrd"), installer, driver, f"{SIZE // 512} {hashlib.md5(content).hexdigest()} {serve(content)}")
        guest.tool("make-boot-disk", str(boot), str(installer / "linux"), f"{work}/initrd",
                   "console=ttyS0 priority=critical DEBIAN_FRONTEND=text panic=-1")
        command = [strata, "run", "--engine", engine, "--firmware", "seabios", "--memory", "512M", "--no-reboot", "--log", "guest",
                   "--disk", f"{boot},format=raw,readonly,bus={kind}", "--disk", f"{data},format=raw,bus={kind}",
                   "--net", f"user,model={model}"]
        with guest.Guest(command, float(seconds)) as machine:
            try:
                for moment in ("GRUB loads Linux", "Linux version", "^the disk is well", "^i686 all is well"):
                    machine.wait_for(moment)
                    print(f"{moment.strip('^')}: {machine.took():.1f} s")
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
                if "install Debian's package" in machine.text:
                    guest.skip(machine.text.strip())
            if data.read_bytes()[16 * MIB:24 * MIB] != content:
                problems.append("the disk does not hold what the guest copied")
            machine.report(problems, f"the installer, {kind}, under {engine}", expected=functions, unwanted=["WRONG"])
    sys.exit(1 if problems else 0)


main()
