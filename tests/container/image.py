"""Builds the Dockerfile and runs the image, without a container engine: buildah and runc, as root.

The base image is Debian's own Python, made with debootstrap; it is made once and kept among
buildah's images. A container is run as an engine would run it with `--read-only --cap-drop ALL
--security-opt no-new-privileges --network host` and an empty volume.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from platform import freedesktop_os_release
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

import httpx

from tests.container.compose import ROOT
from tests.container.topology import free_port

_BASE: Final = "localhost/team-runs-test-base"
_CERTIFICATES: Final = "/etc/ssl/certs"
"""Of the machine, for pip: it may trust more than a fresh Debian does."""
_START_S: Final = 60
_STOP_S: Final = 20


@dataclass(frozen=True)
class Image:
    """An image; `config` is what Docker's format says of it."""

    name: str
    config: dict[str, Any]
    size_bytes: int


def build(target: str) -> Image:
    """Build a target of the Dockerfile."""
    base, name = _base(), f"localhost/team-runs-test:{target}"
    with TemporaryDirectory() as folder:
        pip = Path(folder) / "pip.conf"
        pip.write_text(f"[global]\ncert = {_CERTIFICATES}/ca-certificates.crt\n", "utf-8")
        _do(
            *("buildah", "bud", "--quiet", "--layers", "--format", "docker", "--pull-never"),
            *("--isolation", "chroot", "--network", "host"),
            *("--secret", f"id=pip,src={pip}", "--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"),
            *("--build-arg", f"BASE_IMAGE={base}", "--target", target, "--tag", name, str(ROOT)),
        )
    return _inspect(name)


def base_size_bytes() -> int:
    """Return how large the base image is."""
    return _inspect(_base()).size_bytes


def _inspect(name: str) -> Image:
    told = json.loads(_do("buildah", "inspect", "--type", "image", name))
    with _mounted(name) as root:
        size = _do("du", "--summarize", "--bytes", "--one-file-system", str(root)).split()[0]
    return Image(name, told["Docker"]["config"], int(size))


def _base() -> str:
    """Make the base image, if there is none."""
    if _BASE not in _do("buildah", "images", "--format", "{{.Name}}"):
        with TemporaryDirectory() as folder:
            suite = freedesktop_os_release()["VERSION_CODENAME"]
            root = f"{folder}/root"
            _do("debootstrap", "--variant=minbase", "--include=python3-venv", suite, root)
            shutil.rmtree(f"{root}/var/cache/apt")
            shutil.rmtree(f"{root}/var/lib/apt/lists")
            _do("tar", "--create", "--directory", root, "--file", f"{folder}/root.tar", ".")
            with _from("scratch") as container:
                _do("buildah", "add", "--quiet", container, f"{folder}/root.tar", "/")
                _do("buildah", "commit", "--quiet", container, _BASE)
    return _BASE


@contextmanager
def _from(name: str) -> Iterator[str]:
    container = _do("buildah", "from", "--pull-never", name).strip()
    try:
        yield container
    finally:
        _do("buildah", "rm", container)


@contextmanager
def _mounted(name: str) -> Iterator[Path]:
    with _from(name) as container:
        yield Path(_do("buildah", "mount", container).strip())


@dataclass
class Container:
    """A running container."""

    name: str
    image: Image
    process: subprocess.Popen[str]
    port: int

    def client(self) -> httpx.Client:
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, timeout=60, trust_env=False)

    def do(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as its user; return how it went."""
        return _try("runc", "exec", self.name, *command)

    def is_healthy(self) -> bool:
        """Whether the image's own health check says so."""
        kind, *command = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.do(*command).returncode == 0

    def ask_to_stop(self) -> None:
        """Send the image's stop signal."""
        _do("runc", "kill", self.name, self.image.config["StopSignal"])

    def ended(self) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(_STOP_S)

    def await_health(self) -> None:
        deadline = monotonic() + _START_S
        while not self.is_healthy():
            assert self.process.poll() is None, "the container has ended"
            assert monotonic() < deadline, "the container did not become healthy"
            sleep(0.1)


@contextmanager
def container(image: Image, **settings: str) -> Iterator[Container]:
    """Run an image with settings, named without their prefix, until the context ends."""
    name, port = f"team-runs-{uuid4().hex}", free_port("0.0.0.0")  # noqa: S104 - as the image listens
    given = [
        f"TEAM_RUNS_{name}={value}" for name, value in (settings | {"PORT": str(port)}).items()
    ]
    with TemporaryDirectory() as bundle, _mounted(image.name) as root:
        (Path(bundle) / "config.json").write_text(json.dumps(_spec(image, root, given, bundle)))
        process = subprocess.Popen(  # noqa: S603 - the test's own words
            ["runc", "run", "--bundle", bundle, name],  # noqa: S607 - Debian's
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield Container(name, image, process, port)
        finally:
            _try("runc", "kill", name, "KILL")
            process.wait(_STOP_S)


def run(image: Image, *command: str) -> subprocess.CompletedProcess[str]:
    """Run an image as it is, with another command if one is given, to its end."""
    with TemporaryDirectory() as bundle, _mounted(image.name) as root:
        spec = _spec(image, root, (), bundle, command)
        (Path(bundle) / "config.json").write_text(json.dumps(spec))
        return _try("runc", "run", "--bundle", bundle, f"team-runs-{uuid4().hex}")


def _spec(
    image: Image, root: Path, env: Sequence[str], bundle: str, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what runc is to run: what the image says, and what an engine adds."""
    config = image.config
    uid, gid = map(int, config["User"].split(":"))
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": [*config["Entrypoint"], *(command or config["Cmd"])],
            "env": [*config["Env"], *env],
            "cwd": config["WorkingDir"],
            "user": {"uid": uid, "gid": gid},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            *(_volume(path, root, bundle) for path in config["Volumes"]),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }


def _volume(path: str, root: Path, bundle: str) -> dict[str, Any]:
    """Return an empty volume, which belongs, as with an engine, to the folder's owner."""
    owner, source = (root / path.lstrip("/")).stat(), Path(bundle) / path.strip("/")
    source.mkdir()
    os.chown(source, owner.st_uid, owner.st_gid)
    return {"destination": path, "type": "bind", "source": str(source), "options": ["rbind"]}


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the test's own words
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def _do(*command: str) -> str:
    done = _try(*command)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
