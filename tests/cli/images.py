#!/usr/bin/env python3
"""Images by name, and machines made from them: tiny ones, whose kernel is a boot sector and whose system is a few files.

    images.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)

tests/boot/image.py boots a real one.
"""
import functools
import gzip
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import cases
import cli
import oci
import sectors
from cli import expect, image, one_line, strata

HOME = tempfile.TemporaryDirectory()
os.environ |= {"XDG_STATE_HOME": f"{HOME.name}/state", "XDG_DATA_HOME": f"{HOME.name}/data"}
os.environ["PATH"] += ":/usr/sbin:/sbin"
IMAGES = Path(HOME.name, "data/strata/images")
MACHINES = Path(HOME.name, "state/strata/machines")
ENGINE = ["--engine", "interpret", "--memory", "16M", "--cpus", "1"]
NEEDED = {"mke2fs": "e2fsprogs", "mformat": "mtools", "ssh-keygen": "openssh-client"}


def good(*args, **kwargs):
    done = strata(*args, **kwargs)
    assert done.returncode == 0, f"{args}: {done.returncode} {done.stderr}"
    return done.stdout.decode()


def refused(words, *args, status=1, **kwargs):
    one_line(strata(*args, **kwargs), status, *words)


def refused_at_last(words, *args, status=1, **kwargs):
    """As refused(), but steps may be told before."""
    done = strata(*args, **kwargs)
    expect(done.returncode, status)
    last = done.stderr.decode().splitlines()[-1]
    for word in words:
        assert word in last, f"{word!r} is not in {done.stderr.decode()!r}"


def tree(name="tiny"):
    root = Path(HOME.name, name)
    if not root.exists():
        (root / "etc").mkdir(parents=True)
        (root / "etc/hostname").write_text("tiny\n")
        (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (root / "bin").mkdir()
        (root / "bin/sh").write_bytes(b"#!\n" * 10000)
    return root


def make_image(name="tiny", kernel=None):
    good("image", "import", str(tree()), "--name", name, "--size", "32M", "--kernel", image(kernel or sectors.echo()), "--append", "")


def images():
    return {row["name"]: row for row in json.loads(good("image", "ls", "--json"))}


def machines():
    return {row["name"]: row for row in json.loads(good("ls", "--json"))}


def net_of(name):
    return re.search(r"^net: (.*)$", (MACHINES / name / "machine.yaml").read_text(), re.M)[1]


def port_of(name):
    return int(re.fullmatch(r"user,forward=tcp:127\.0\.0\.1:(\d+):22", net_of(name))[1])


def clean():
    for name in machines():
        good("rm", "--force", name)
    for name in images():
        good("image", "rm", name)
    expect([os.listdir(IMAGES), [name for name in os.listdir(MACHINES) if name != ".alone"]], [[], []])


def an_image_is_made_of_a_folder():
    make_image()
    row = images()["tiny"]
    expect((row["size"], row["machines"], row["bus"], row["source"]), (32 << 20, 0, "nvme", str(tree())))
    assert re.search(r"^tiny +32 MiB ", good("image", "ls"), re.M)
    # What is on it, as others see it: the partition begins at 1 MiB.
    raw = f"{HOME.name}/raw"
    good("image", "convert", str(IMAGES / "tiny/disk.qcow2"), raw, "--format", "raw")
    data = Path(raw).read_bytes()
    expect((data[440:444], data[450], data[510:512]), (b"STRA", 0x83, b"\x55\xaa"))
    expect(int.from_bytes(data[454:458], "little"), 2048)
    Path(raw).write_bytes(data[1 << 20:])
    said = subprocess.run(["debugfs", "-R", "cat /etc/hostname", raw], capture_output=True, text=True, check=True).stdout
    expect(said, "tiny\n")
    # Machines have ids of their own; the folder is as it was.
    said = subprocess.run(["debugfs", "-R", "stat /etc/machine-id", raw], capture_output=True, text=True, check=True).stdout
    assert "Type: regular" in said and "Size: 0\n" in said, said
    expect(len((tree() / "etc/machine-id").read_text()), 33)
    subprocess.run(["e2fsck", "-fn", raw], stdout=subprocess.DEVNULL, check=True)
    clean()


def an_image_is_made_of_an_archive():
    archive = f"{HOME.name}/small.tar.gz"
    (tree("boots") / "boot").mkdir(exist_ok=True)
    for version in ("6.1.0-9", "6.1.0-10"):
        (tree("boots") / f"boot/vmlinuz-{version}").write_bytes(sectors.sector(version.encode()))
    (tree("boots") / "boot/initrd.img-6.1.0-10").write_bytes(b"initrd")
    os.symlink("/etc/passwd", tree("boots") / "boot/vmlinuz-7")  # no file of the host's gets in
    for version in ("6.1.0-9", "6.1.0-10"):
        (tree("boots") / f"usr/lib/modules/{version}/kernel").mkdir(parents=True)
        (tree("boots") / f"usr/lib/modules/{version}/kernel/a-module.ko").write_text(version)
    os.symlink("usr/lib", tree("boots") / "lib")
    subprocess.run(["tar", "-czf", archive, "-C", tree("boots"), "."], check=True)
    expect(good("image", "import", archive, "--size", "32M"), "small\n")
    expect((IMAGES / "small/kernel").read_bytes(), sectors.sector(b"6.1.0-10"))
    expect((IMAGES / "small/initrd").read_bytes(), b"initrd")
    with tarfile.open(IMAGES / "small/modules") as modules:
        expect(sorted(modules.getnames()), ["6.1.0-10", "6.1.0-10/kernel", "6.1.0-10/kernel/a-module.ko"])
    clean()


def a_kernel_is_borrowed_with_its_modules():
    lender = tree("lender")
    (lender / "boot").mkdir()
    (lender / "boot/vmlinuz-1-a").write_bytes(sectors.echo())
    (lender / "lib/modules/1-a/kernel").mkdir(parents=True)
    (lender / "lib/modules/1-a/modules.dep").write_text("kernel/m-1.ko:\n")
    (lender / "lib/modules/1-a/kernel/m-1.ko").write_bytes(b"module" * 1000)
    (lender / "lib/modules/1-a/kernel/no module").write_text("1")
    (lender / "lib/modules/1-a/kernel/link").symlink_to("/etc/passwd")
    good("image", "import", str(lender), "--size", "32M")
    # A folder stays as it is; of trees that have a /lib it may be a link, of which the host's own files are none.
    (tree("absolute") / "usr/lib").mkdir(parents=True)
    (tree("absolute") / "lib").symlink_to("/usr/lib")
    (tree("own") / "lib/modules/1-a").mkdir(parents=True)
    (tree("own") / "lib/modules/1-a/modules.dep").write_text("its own\n")
    for name, dep in [("tiny", "kernel/m-1.ko:\n"), ("absolute", "kernel/m-1.ko:\n"), ("own", "its own\n")]:
        good("image", "import", str(tree(name)), "--size", "32M", "--kernel-of", "lender")
        expect((IMAGES / name / "kernel").read_bytes(), sectors.echo())
        expect([in_disk(name, f"/lib/./modules/1-a/{file}") for file in ("modules.dep", "kernel/m-1.ko", "kernel/no module", "kernel/link")],
               [dep, "module" * 1000, "", ""])
        subprocess.run(["e2fsck", "-fn", f"{HOME.name}/raw?offset=1048576"], stdout=subprocess.DEVNULL, check=True)
    assert not (tree("tiny") / "lib").exists() and not os.path.exists("/usr/lib/modules/1-a")
    # It can be lent on, also by an image that has been away.
    good("image", "export", "tiny", f"{HOME.name}/away")
    good("image", "import", f"{HOME.name}/away", "--name", "back")
    good("image", "import", str(tree()), "--name", "third", "--size", "32M", "--kernel-of", "back")
    expect(in_disk("third", "/lib/modules/1-a/modules.dep"), "kernel/m-1.ko:\n")
    # What is not there, and what has no place.
    make_image("plain")
    done = strata("image", "import", str(tree()), "--name", "fourth", "--size", "32M", "--kernel-of", "plain")
    assert done.returncode == 0 and b"image plain has no modules of its kernel" in done.stderr, done
    expect((os.path.exists(IMAGES / "fourth/modules"), in_disk("fourth", "/lib/modules/1-a/modules.dep")), (False, ""))
    (tree("filed") / "lib").write_text("no folder")
    refused_at_last(["/lib is no folder"], "image", "import", str(tree("filed")), "--size", "32M", "--kernel-of", "lender")
    (lender / "lib/modules/1-a/kernel/large.ko").write_bytes(os.urandom(14 << 20))
    good("image", "import", str(lender), "--name", "large", "--size", "64M")
    refused_at_last(["do not fit", "--size"], "image", "import", str(tree()), "--name", "small", "--size", "16M", "--kernel-of", "large")
    expect([name for name in os.listdir(IMAGES) if name.startswith(".") or name in ("filed", "small")], [])
    clean()


def in_disk(name, path):
    """A file in an image's first partition."""
    raw = f"{HOME.name}/raw"
    good("image", "convert", str(IMAGES / name / "disk.qcow2"), raw, "--format", "raw", "--force")
    return subprocess.run(["debugfs", "-R", f'cat "{path}"', f"{raw}?offset=1048576"], capture_output=True, text=True).stdout


def an_oci_image_is_unpacked():
    if not shutil.which("umoci"):
        refused(["umoci is missing", "sudo apt-get install umoci"], "image", "import", str(oci.Layout(f"{HOME.name}/none").path))
        return
    layout = oci.Layout(f"{HOME.name}/layout")
    base = {"bin": None, "bin/sh": b"sh", "etc": None, "etc/old": b"old", "etc/kept": b"kept", "full": None, "full/one": b"1",
            "etc/passwd": b"ada:x:7:7::/:/bin/sh\n", "etc/group": b"users:x:100:\n"}
    layout.image("app", [base, {"etc/.wh.old": b"", "full/.wh..wh..opq": b"", "full/two": b"2"}],
                 Env=["A=it's", "B C=x", "PATH=/bin"], WorkingDir="/srv/a b", Entrypoint=["/bin/sh", "-c"], Cmd=["echo 'x'", "$A"], User="ada:users")
    layout.image("boots", [{"sbin": None, "sbin/init": "-> /bin/sh", "boot": None, "boot/vmlinuz-1": sectors.echo()}])
    kernel = image(sectors.echo())
    at = f"oci:{layout.path}"
    good("image", "import", f"{at}:boots", "--name", "boots", "--size", "32M")
    expect((images()["boots"]["append"], images()["boots"]["seed"]), ("console=ttyS0 root=PARTUUID=41525453-01 rootwait rw init=/.strata/init", "nocloud"))
    good("image", "import", f"{at}:app", "--size", "32M", "--kernel-of", "boots")
    row = images()["layout:app"]
    expect((row["source"], row["append"].split()[-1], "seed" in row), (f"{at}:app", "init=/.strata/init", False))
    expect((IMAGES / "layout:app/kernel").read_bytes(), sectors.echo())
    expect([in_disk("layout:app", name) for name in ("/etc/old", "/etc/kept", "/full/one", "/full/two")], ["", "kept", "", "2"])
    good("create", "layout:app", "--name", "web")
    assert "init=/.strata/init strata.name=web\n" in (MACHINES / "web/machine.yaml").read_text()
    good("rm", "web")
    # What it runs is what a shell makes of that script.
    run = in_disk("layout:app", "/.strata/run").replace("exec \"$@\"", 'for word; do echo "<$word>"; done; echo "$A"').replace("cd '/srv/a b' || exit", "")
    assert "cd '/srv/a b' || exit" in in_disk("layout:app", "/.strata/run")
    said = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=True).stdout
    expect(said, "<su>\n<-s>\n</bin/sh>\n<ada>\n<-c>\n<exec \"$0\" \"$@\">\n</bin/sh>\n<-c>\n<echo 'x'>\n<$A>\nit's\n")
    expect([name for name in os.listdir(IMAGES / "layout:app") if name.startswith(".")], [])
    if shutil.which("skopeo"):
        subprocess.run(["skopeo", "copy", "--quiet", f"{at}:app", f"oci-archive:{HOME.name}/app.tar"], check=True)
        good("image", "import", f"oci-archive:{HOME.name}/app.tar", "--name", "packed", "--size", "32M", "--kernel", kernel)
        expect(in_disk("packed", "/etc/kept"), "kept")
        refused_at_last(["/none.tar", "network"], "image", "import", f"oci-archive:{HOME.name}/none.tar", "--name", "none")
    # What is wrong with others is told.
    layout.image("arm", [base], architecture="arm64")
    layout.image("empty", [{"etc": None}])
    broken = layout.image("broken", [{"etc": None, "etc/x": b"1"}])
    (layout.path / "blobs/sha256" / broken["layers"][0]["digest"][7:]).write_bytes(gzip.compress(oci.layer({"etc/x": b"2"})))
    layout.add({"digest": "sha256:../../../../../../etc/passwd"}, "out")
    layout.add(layout.blob(json.dumps({"manifests": [layout.manifests[0]] * 2}).encode(), "index.v1+json") | {"digest": "sha256:" + "0" * 64}, "gone")
    loop = layout.blob(b'{"manifests": [{"platform": {"architecture": "s390x"}}]}', "index.v1+json")
    layout.add(loop, "foreign")
    for tag, words in [("arm", ["arm64", "x86-64"]), ("empty", ["no", "/bin/sh"]), ("out", ["no digest"]), ("gone", ["0000", "No such file"]), ("foreign", ["x86-64"]),
                       ("none", ["no image with the tag none"]), ("broken", [])]:
        done = strata("image", "import", f"{at}:{tag}", "--name", "bad", "--size", "32M", "--kernel", kernel)
        assert done.returncode in (1, 2) and all(word in done.stderr.decode().splitlines()[-1] for word in words), (tag, done)
    refused([str(layout.path), "8 images", "oci:FOLDER:TAG"], "image", "import", str(layout.path), "--name", "bad", status=2)
    refused(["no OCI image layout", "oci-archive:"], "image", "import", f"oci:{HOME.name}/nowhere", "--name", "bad", status=2)
    refused_at_last(["no kernel in /boot", "--kernel-of debian:12"], "image", "import", f"{at}:app", "--name", "bad", "--size", "32M", status=2)
    refused_at_last(["no image nosuch"], "image", "import", f"{at}:app", "--name", "bad", "--size", "32M", "--kernel-of", "nosuch")
    (layout.path / "index.json").write_text("{")
    refused(["index.json"], "image", "import", f"{at}:app", "--name", "bad", status=2)
    expect([name for name in os.listdir(IMAGES) if name.startswith(".") or name == "bad"], [])
    clean()


def a_disk_is_taken_with_its_boot_loader():
    disk = f"{HOME.name}/cloud.img"
    Path(disk).write_bytes(sectors.echo() + bytes(1 << 20))
    expect(good("image", "import", disk, "--name", "cloud"), "cloud\n")
    expect(good("create", "cloud", "--name", "web"), "web\n") if os.path.exists("/usr/share/seabios/bios-256k.bin") else None
    text = good("show", "web") if machines() else "firmware: seabios"
    assert "firmware: seabios" in text and "kernel:" not in text, text
    clean()


def a_machine_is_made_of_it():
    make_image()
    expect(good("run", "tiny", "--name", "web", "--detach", *ENGINE, "--user", "ada"), "web\n")
    expect(machines()["web"]["state"], "running")
    assert machines()["web"]["address"] == f"127.0.0.1:{port_of('web')}->22", machines()
    folder = MACHINES / "web"
    config = (folder / "machine.yaml").read_text()
    for line in (f"kernel: {IMAGES}/tiny/kernel", "memory: 16M", "user: ada", f"- {folder}/disk.qcow2,format=qcow2,bus=nvme",
                 f"- {folder}/seed.img,format=raw,readonly,bus=nvme"):
        assert f"\n{line}\n" in config, (line, config)
    # Small, and the image's until it is written to.
    used = sum(entry.stat().st_blocks * 512 for entry in folder.iterdir())
    assert used < 1 << 20, used
    info = json.loads(good("image", "info", "--json", str(folder / "disk.qcow2")))
    expect((info["size"], info["backing"], info["backing-format"]), (32 << 20, f"{IMAGES}/tiny/disk.qcow2", "qcow2"))
    expect(images()["tiny"]["machines"], 1)
    good("kill", "web")
    good("start", "web")
    clean_up = good("rm", "--force", "web")
    expect(clean_up, "")
    assert not folder.exists()
    clean()


def a_person_is_told_how_to_use_it():
    make_image()
    with cli.Terminal(cli.STRATA, "run", "tiny", *ENGINE) as t:
        t.wait_raw()
        t.type(b"A")
        t.type(cli.ESCAPE)
        expect(t.process.wait(timeout=cli.LIMIT), 0)
        t.check_restored()
        said = b""
        while select.select([t.master], [], [], 0)[0]:
            said += os.read(t.master, 65536)
    for words in (b"machine tiny-1, from image tiny; Ctrl-] ends it\r\n", b"strata ssh tiny-1\r\n", b"machine tiny-1 is kept", b"strata rm tiny-1"):
        assert words in said, said
    expect(machines()["tiny-1"]["state"], "stopped")
    clean()


def its_seed_says_who_it_is():
    make_image()
    for name in ("one.web_1", "two"):
        good("create", "tiny", "--name", name, "--user", "ada")
    seeds = {}
    for name in machines():
        read = lambda file: subprocess.run(["mtype", "-i", MACHINES / name / "seed.img", f"::{file}"], capture_output=True, text=True,
                                           check=True).stdout
        seeds[name] = (read("meta-data"), read("user-data"))
    meta, user = seeds["one.web_1"]
    assert re.fullmatch(r"instance-id: i-[0-9a-f]{16}\nlocal-hostname: one-web-1\n", meta), meta
    assert user.startswith("#cloud-config\nhostname: one-web-1\n"), user
    key = Path(HOME.name, "state/strata/id_ed25519.pub").read_text().strip()
    assert user.count(key) == 2 and "\n  - name: root\n" in user and "\n  - name: ada\n" in user, user
    # Its own key is the one that is known of it, and no other machine's.
    public = re.search(r"ed25519_public: (.*)\n", user)[1]
    expect((MACHINES / "one.web_1/known_hosts").read_text(), f"one.web_1 {public}\n")
    private = re.search(r"ed25519_private: \|\n((?:    .*\n)+)", user)[1].replace("    ", "")
    file = image(private.encode(), "key")
    os.chmod(file, 0o600)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True).stdout.split()
    expect(derived[:2], public.split()[:2])
    assert seeds["two"][0] != meta and public not in seeds["two"][1]
    for path in (MACHINES / "two").iterdir():
        expect(path.stat().st_mode & 0o077, 0)
    label = subprocess.run(["blkid", "-o", "value", "-s", "LABEL", MACHINES / "two/seed.img"], capture_output=True, text=True).stdout
    expect(label.strip().lower(), "cidata")
    clean()


def names_and_ports_are_chosen_once():
    make_image()
    commands = [[cli.STRATA, "create", "tiny"] for _ in range(4)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands]
    done = [p.communicate(timeout=cli.LIMIT) for p in running]
    expect(sorted(out for out, _ in done), [f"tiny-{i}\n" for i in range(1, 5)])
    ports = {port_of(name) for name in machines()}
    expect(len(ports), 4)
    good("rm", "tiny-2")
    expect(good("create", "tiny"), "tiny-2\n")
    # What the user says of the network is kept.
    good("create", "tiny", "--name", "a", "--net", "user,forward=tcp:127.0.0.1:1022:22")
    expect(net_of("a"), "user,forward=tcp:127.0.0.1:1022:22")
    good("create", "tiny", "--name", "b", "--net", "segment=lab")
    expect(net_of("b"), "segment=lab")
    good("create", "tiny", "--name", "c", "--net", "user,mac=52:54:00:00:00:07")
    assert net_of("c").startswith("user,mac=52:54:00:00:00:07,forward=tcp:127.0.0.1:"), net_of("c")
    clean()


def an_image_in_use_stays():
    make_image()
    good("create", "tiny", "--name", "web")
    refused(["web stands on image tiny", "strata rm web"], "image", "rm", "tiny")
    good("create", "tiny", "--name", "mail")
    refused(["2 machines", "tiny"], "image", "rm", "tiny")
    good("rm", "web")
    good("rm", "mail")
    good("image", "rm", "tiny")
    expect(images(), {})


def an_image_travels():
    make_image()
    refused(["/nonexistent/a"], "image", "export", "tiny", "/nonexistent/a")
    good("image", "export", "tiny", f"{HOME.name}/exported")
    expect(sorted(os.listdir(f"{HOME.name}/exported")), ["disk.qcow2", "image.yaml", "kernel"])
    refused(["exported", "File exists"], "image", "export", "tiny", f"{HOME.name}/exported")
    expect(good("image", "import", f"{HOME.name}/exported", "--name", "other"), "other\n")
    rows = images()
    expect({**rows["other"], "name": "tiny", "host_size": 0}, {**rows["tiny"], "host_size": 0})
    good("run", "other", "--name", "web", "--detach", *ENGINE)
    clean()


def who_is_killed_leaves_nothing():
    """strata dies at any moment of an import: the next command finds the image whole, or nothing."""
    big = tree("big")
    for i in range(300):
        (big / f"file{i}").write_bytes(os.urandom(20000))
    command = [cli.STRATA, "image", "import", str(big), "--name", "big", "--size", "64M", "--kernel", image(sectors.echo())]
    dice = random.Random(7)
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            time.sleep(dice.random() * 0.5)
            p.kill()
        # Its children die with it, and a lock with the last of them.
        deadline = time.monotonic() + cli.LIMIT
        while (left := [name for name in os.listdir(IMAGES) if name.startswith(".")]) and time.monotonic() < deadline:
            images()
        expect(left, [])
        if "big" in images():
            subprocess.run([cli.STRATA, "image", "check", IMAGES / "big/disk.qcow2"], check=True, stdout=subprocess.DEVNULL)
            good("image", "rm", "big")
    clean()


def who_makes_a_machine_and_is_killed_leaves_nothing():
    make_image()
    for moment in range(10):
        with subprocess.Popen([cli.STRATA, "create", "tiny", "--name", "web"], stdout=subprocess.DEVNULL) as p:
            time.sleep(moment / 200)
            p.kill()
        if "web" in machines():
            assert (MACHINES / "web/seed.img").stat().st_size and (MACHINES / "web/known_hosts").stat().st_size
            good("rm", "web")
        good("create", "tiny", "--name", "other")
        expect([name for name in os.listdir(MACHINES) if name not in (".alone", "other")], [])
        good("rm", "other")
    clean()


def mistakes_are_told_with_what_to_do():
    make_image()
    refused(["no image debian:13", "strata image ls", "debian:12"], "run", "debian:13")
    refused(["no image", "debian:12"], "create", "windows")
    refused(["a/b", "letters"], "run", "a/b", status=2)
    refused(["debian:13", "debian:12"], "image", "build", "debian:13", status=2)
    refused(["--kernel", "tiny"], "run", "tiny", "--kernel", "vmlinuz", status=2)
    refused(["--firmware", "tiny"], "run", "tiny", "--firmware", "seabios", status=2)
    refused(["image tiny exists", "strata image rm tiny", "--name"], "image", "import", str(tree()), "--name", "tiny")
    refused(["no image none"], "image", "rm", "none")
    refused(["no image none"], "image", "export", "none", f"{HOME.name}/none")
    refused(["/nonexistent"], "image", "import", "/nonexistent")
    refused(["--initrd goes with --kernel"], "image", "import", str(tree()), "--initrd", "x", "--name", "x", status=2)
    refused_at_last(["no kernel", "--kernel FILE"], "image", "import", str(tree()), "--name", "x", "--size", "32M", status=2)
    good("create", "tiny", "--name", "web")
    refused(["machine web exists", "strata start web", "strata rm web"], "run", "tiny", "--name", "web")
    # Before anything is built for it.
    refused(["machine web exists"], "run", "debian:12", "--name", "web")
    refused(["web does not run", "strata start web"], "ssh", "web")
    refused(["web does not run", "strata start web"], "exec", "web", "--", "true")
    refused(["COMMAND is missing"], "exec", "web", status=2)
    refused(["no machine mail"], "ssh", "mail")
    refused(["user", "A b"], "run", "tiny", "--user", "A b", status=2)
    expect(list(images()), ["tiny"])
    clean()


def a_machine_without_a_way_in_says_so():
    make_image()
    good("run", "tiny", "--name", "web", "--detach", *ENGINE)
    refused(["web does not answer", "strata console web"], "exec", "web", "--timeout", "0.3", "--", "true")
    good("run", "tiny", "--name", "mute", "--detach", *ENGINE, "--net", "none")
    refused(["mute has no way in", "forward=tcp"], "ssh", "mute")
    with subprocess.Popen([cli.STRATA, "exec", "web", "--", "true"], stderr=subprocess.PIPE, text=True) as p:
        time.sleep(0.2)
        good("kill", "web")
        said = p.communicate(timeout=cli.LIMIT)[1]
    assert "web has ended" in said or "web does not run" in said, said
    clean()


def a_port_that_is_taken_is_named():
    make_image()
    good("create", "tiny", "--name", "a", *ENGINE)
    good("create", "tiny", "--name", "b", *ENGINE, "--net", net_of("a"))
    good("start", "a")
    refused([str(port_of("a")), "in use", "forward="], "start", "b")
    clean()


def a_kernel_of_another_architecture_is_named():
    arm = bytearray(1024)
    arm[0x38:0x3c] = b"ARM\x64"
    make_image("arm", bytes(arm))
    refused(["arm64", "x86-64"], "run", "arm", "--name", "web", *ENGINE)
    expect(machines(), {})
    clean()


def what_may_not_be_done_is_named_with_a_way_out():
    """Files that are somebody else's, ports that are root's, addresses that are another host's."""
    if os.geteuid() or not readable_by_all(cli.STRATA):
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name, mode in (("kernel", 0o644), ("mine", 0o600), ("shown", 0o644)):
            Path(folder, name).write_bytes(sectors.echo())
            os.chmod(Path(folder, name), mode)
        who = {"user": 4711, "group": 4711, "extra_groups": [], "env": os.environ | {"HOME": folder, "XDG_STATE_HOME": ""}}
        run = ["run", *ENGINE, "--kernel", f"{folder}/kernel"]
        refused([f"{folder}/mine", "Permission denied", "not yours to read"], "run", *ENGINE, "--kernel", f"{folder}/mine", **who)
        refused([f"{folder}/mine", "Permission denied", "not yours to open"], *run, "--disk", f"{folder}/mine,format=raw", **who)
        refused([f"{folder}/shown", "you may only read it", "readonly"], *run, "--disk", f"{folder}/shown,format=raw", **who)
        if os.path.exists("/dev/net/tun") and os.stat("/dev/net/tun").st_mode & 0o006 == 0:
            refused(["/dev/net/tun", "Permission denied", "--net user"], *run, "--net", "tap=tap0", **who)
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 80:
            refused(["port 80", "Permission denied", "ports below 1024", "forward="], *run, "--net", "user,forward=tcp:127.0.0.1:80:80", **who)
        refused(["port 8080", "no such address"], *run, "--net", "user,forward=tcp:192.0.2.1:8080:80", **who)


def what_is_missing_is_named():
    """Programs, permission, a network, room: before or while an image is built."""
    make_image()
    with tempfile.TemporaryDirectory() as few:
        for name in ("sh", "env", "true"):
            os.symlink(shutil.which(name), f"{few}/{name}")
        poor = os.environ | {"PATH": few}
        for program, args in (("mmdebstrap", ["image", "build", "debian:12"]), ("ssh-keygen", ["create", "tiny", "--name", "x"])):
            if not shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin"):
                refused([f"{program} is missing", "sudo apt-get install"], *args, env=poor)
    refused(["/proc/none", "XDG_DATA_HOME"], "image", "build", "debian:12", env=os.environ | {"XDG_DATA_HOME": "/proc/none"})
    if os.geteuid() == 0 and readable_by_all(cli.STRATA):
        refused(["Permission denied", "XDG_DATA_HOME"], "run", "debian:12", user=4711, group=4711, extra_groups=[], cwd="/")
    if shutil.which("mmdebstrap") and may_build():
        for mirror in ("http://127.0.0.1:9/debian", "http://mirror.invalid/debian"):
            refused_at_last(["mirror", "is there a network?"], "image", "build", "debian:12", "--mirror", mirror)
        refused_at_last(["image debian:12", "is there a network?"], "run", "debian:12", env=os.environ | {"http_proxy": "http://127.0.0.1:9"})
        with small_file_system() as small:
            if small:
                refused(["room", small, "XDG_DATA_HOME"], "image", "build", "debian:12", env=os.environ | {"XDG_DATA_HOME": small})
                Path(small, "fill").write_bytes(bytes((8 << 20) - (160 << 10)))  # room for a folder, but no disk
                full = os.environ | {"XDG_STATE_HOME": small}
                refused(["no room", f"{small}/strata/machines/x", "strata image ls", "XDG_STATE_HOME"], "create", "tiny", "--name", "x", env=full)
                expect(strata("ls", "--json", env=full).stdout, b"[]\n")
    expect([name for name in os.listdir(IMAGES) if name.startswith(".")], [])
    expect(list(machines()), [])
    clean()


def name_spaces_that_are_refused_are_named():
    """In a chroot, for one, nobody but root may have them."""
    if os.geteuid() or not readable_by_all(cli.STRATA) or not all(shutil.which(program) for program in ("mmdebstrap", "newuidmap", "setpriv")):
        raise cases.Skipped("not as root, or a program is missing")
    files = {"passwd": "new:x:4711:4711::/:/bin/sh\n", "subuid": "new:1000000:65536\n", "subgid": "new:1000000:65536\n"}
    script = 'for file in passwd subuid subgid; do mount --bind $file /etc/$file; done; mkdir root; mount --rbind / root; exec chroot root "$@"'
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        os.chown(folder, 4711, 4711)
        who = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "env", f"HOME={folder}", "XDG_DATA_HOME="]
        done = subprocess.run(["unshare", "--mount", "sh", "-ec", script, "sh", *who, cli.STRATA, "image", "build", "debian:12"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, cwd=folder)
        one_line(done, 1, "user name spaces", "run it as root")


def readable_by_all(path):
    return all(parent.stat().st_mode & 0o001 for parent in Path(path).parents)


def may_build():
    return os.geteuid() == 0 or not subprocess.run(["unshare", "--map-root-user", "--map-auto", "true"], stderr=subprocess.DEVNULL).returncode


class small_file_system:
    """8 MiB of memory, mounted where only root can."""

    def __enter__(self):
        self.path = tempfile.mkdtemp()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", self.path], stderr=subprocess.DEVNULL)
        self.mounted = not done.returncode
        return self.path if self.mounted else None

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", self.path], check=True)
        os.rmdir(self.path)


CASES = [
    an_image_is_made_of_a_folder,
    an_image_is_made_of_an_archive,
    a_kernel_is_borrowed_with_its_modules,
    an_oci_image_is_unpacked,
    a_disk_is_taken_with_its_boot_loader,
    a_machine_is_made_of_it,
    a_person_is_told_how_to_use_it,
    its_seed_says_who_it_is,
    names_and_ports_are_chosen_once,
    an_image_in_use_stays,
    an_image_travels,
    who_is_killed_leaves_nothing,
    who_makes_a_machine_and_is_killed_leaves_nothing,
    mistakes_are_told_with_what_to_do,
    a_machine_without_a_way_in_says_so,
    a_port_that_is_taken_is_named,
    a_kernel_of_another_architecture_is_named,
    what_may_not_be_done_is_named_with_a_way_out,
    what_is_missing_is_named,
    name_spaces_that_are_refused_are_named,
]


def after_cleaning(case):
    """A case that has failed leaves things."""
    @functools.wraps(case)
    def run():
        clean()
        case()
    return run


def main():
    for program, package in NEEDED.items():
        if not shutil.which(program):
            print(f"skipped: {program} is missing: {package} has it")
            return 77
    try:
        return cases.main([after_cleaning(case) for case in CASES])
    finally:
        for name in (os.listdir(MACHINES) if MACHINES.exists() else []):
            if not name.startswith("."):
                strata("rm", "--force", name)


if __name__ == "__main__":
    sys.exit(main())
