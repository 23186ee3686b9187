"""Build the images of docker/ for real and run their commands, with neither a registry nor an engine's daemon.

The base is made of Debian's own packages; podman builds and buildah runs by chroot alone, so that neither control
groups nor a network of their own are needed. Tools: podman 4.3, buildah 1.28, mmdebstrap 1.3, QEMU 7.2 user mode.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TOOLS = ("podman", "buildah", "mmdebstrap")
CHROOT = ("--isolation=chroot", "--network=host")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
EMULATED = {"arm64": ("aarch64", "cortex-a72"), "armhf": ("arm", "cortex-a7")}
"""Debian's name -> QEMU's names of the architecture and of the processor; the default processor computes wrongly."""
_ELF = {
    "aarch64": (r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"),
    "arm": (r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00"),
}
_ELF_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True, slots=True)
class Image:
    """A built image and what it was built on."""

    name: str
    base: str
    architecture: str

    @property
    def size_bytes(self) -> int:
        return size_bytes(self.name)

    @property
    def added_bytes(self) -> int:
        return self.size_bytes - size_bytes(self.base)

    @contextmanager
    def container(self, *options: str) -> Iterator[Container]:
        """A fresh container, gone afterwards."""
        name = _call("buildah", "from", "--pull-never", *options, self.name).strip()
        try:
            yield Container(name, self.architecture)
        finally:
            _call("buildah", "rm", name)


@dataclass(frozen=True, slots=True)
class Container:
    """Where commands of an image run, as its own user; several may run at once."""

    name: str
    architecture: str

    def command(
        self, *argv: str, variables: Mapping[str, str] | None = None, volumes: tuple[str, ...] = ()
    ) -> list[str]:
        given = [f"--env={name}={value}" for name, value in (variables or {}).items()]
        return ["buildah", "run", *CHROOT, *given, *(f"--volume={each}" for each in volumes), self.name, "--", *argv]

    def run(self, *argv: str, timeout_s: float = 120) -> str:
        return _call(*self.command(*argv), timeout_s=timeout_s, emulated=self.architecture).strip()

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Its files, here."""
        yield Path(_call("buildah", "mount", self.name).strip())
        _call("buildah", "umount", self.name)


@cache
def build(stem: str, architecture: str = "amd64") -> Image:
    """Build docker/STEM.Dockerfile, once in a run of tests; layers that did not change are kept by podman."""
    image, made_on = f"localhost/test-farm-{stem}", base(architecture)
    argv = (
        "podman",
        "build",
        "--format=docker",
        *CHROOT,
        "--pull-never",
        "--layers",
        f"--arch={_podmans(architecture)}",
    )
    links = os.environ.get("PIP_FIND_LINKS")
    arguments = [f"--build-arg=BASE={made_on}", *([f"--build-arg=PIP_FIND_LINKS={links}"] if links else [])]
    given = (*arguments, *(f"--volume={path}:{path}:ro" for path in _wheels()), f"--tag={image}")
    _call(*argv, *given, f"--file=docker/{stem}.Dockerfile", ".", timeout_s=3000, emulated=architecture)
    return Image(image, made_on, architecture)


def base(architecture: str) -> str:
    """Make what the Dockerfiles start from, unless it is there: a minimal Debian with this machine's certificates."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, f"install {' '.join(missing)} (Debian: apt install {' '.join(missing)} crun)"
    name = f"localhost/debian-{architecture}:bookworm-slim"
    if subprocess.run(["podman", "image", "exists", name], timeout=60).returncode == 0:
        _register(architecture)
        return name
    _register(architecture)
    sources = next(
        p for p in map(Path, ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")) if p.exists()
    )
    with tempfile.TemporaryDirectory() as folder:
        packed, root = Path(folder, "base.tar"), Path(folder, "root")
        options = ("--quiet", "--variant=minbase", f"--architectures={architecture}", "--include=ca-certificates")
        _call("mmdebstrap", *options, "bookworm", str(packed), str(sources), timeout_s=900, emulated=architecture)
        root.mkdir()
        _call("tar", "-C", str(root), "-xf", str(packed), "--exclude=./dev/*")
        for path in (Path("etc/ssl/certs/ca-certificates.crt"), Path("etc/pip.conf")):
            if Path("/", path).exists():
                shutil.copy(Path("/", path), root / path)
        _call("tar", "-C", str(root), "-cf", str(packed), ".")
        _call("podman", "import", f"--arch={_podmans(architecture)}", str(packed), name, timeout_s=300)
    return name


def size_bytes(image: str) -> int:
    (found,) = json.loads(_call("podman", "image", "inspect", image))
    return int(found["Size"])


def health_check(image: str) -> list[str]:
    (found,) = json.loads(_call("podman", "image", "inspect", image))
    return list(found["Healthcheck"]["Test"][1:])


def command(image: str) -> list[str]:
    """Give what an image runs when it is told nothing."""
    (found,) = json.loads(_call("podman", "image", "inspect", image))
    return list(found["Config"]["Cmd"])


def _podmans(architecture: str) -> str:
    return "arm" if architecture == "armhf" else architecture


def _wheels() -> list[str]:
    """Name the local folders that pip was told to look into."""
    told = " ".join((_call("python3", "-m", "pip", "config", "list"), os.environ.get("PIP_FIND_LINKS", "")))
    words = told.replace("'", " ").replace("\\n", " ").replace("file://", "").split()
    folders = [Path(word) for word in words if word.startswith("/") and Path(word).is_dir()]
    return sorted({str(path.parent if path.name == "simple" else path) for path in folders})


def _register(architecture: str) -> None:
    """Let the kernel start programs of another architecture; the interpreter is opened now, so no root needs it."""
    if architecture not in EMULATED:
        return
    qemu, _ = EMULATED[architecture]
    if not (_BINFMT / "register").exists():
        _call("mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT))
    if not (_BINFMT / f"qemu-{qemu}").exists():
        (_BINFMT / "register").write_text(f":qemu-{qemu}:M::{_ELF[qemu]}:{_ELF_MASK}:/usr/bin/qemu-{qemu}-static:F")


def _call(*argv: str, timeout_s: float = 120, emulated: str = "amd64") -> str:
    variables = dict(os.environ)
    if emulated in EMULATED:
        variables["QEMU_CPU"] = EMULATED[emulated][1]
    ran = subprocess.run(argv, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=timeout_s)
    assert ran.returncode == 0, f"{' '.join(argv)}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    return ran.stdout
