"""OCI images (image-spec 1.0), made by hand: layers of files, whiteouts, a configuration."""
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path


def layer(entries):
    """A packed archive. {name: bytes | "-> target" | None for a folder}, or an archive that is there."""
    if isinstance(entries, bytes):
        return entries
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return data.getvalue()


class Layout:
    def __init__(self, path):
        self.path, self.manifests = Path(path), []
        (self.path / "blobs/sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def image(self, tag, layers, architecture="amd64", **config):
        archives = [layer(entries) for entries in layers]
        about = {"architecture": architecture, "os": "linux", "config": config,
                 "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in archives]}}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": self.blob(json.dumps(about).encode(), "config.v1+json"),
                    "layers": [self.blob(gzip.compress(data), "layer.v1.tar+gzip") for data in archives]}
        self.add(self.blob(json.dumps(manifest).encode(), "manifest.v1+json"), tag)
        return manifest

    def add(self, descriptor, tag):
        self.manifests.append(descriptor | {"annotations": {"org.opencontainers.image.ref.name": tag}})
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))
