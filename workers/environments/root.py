"""Make a runnable Debian root of another architecture, with the worker's and its runtimes' locked environments.

Nothing of the root is emulated while it is made, but one ldconfig and the final proof: Debian's packages are extracted
without their scripts, wheels are resolved and unpacked by this machine, and its interpreter compiles them. Packages
and wheels come from where this machine's apt, pip and uv get theirs.

DIR/farm-root.json           what the root is: architecture, emulator, environments
DIR/opt/farm/envs/NAME/      environments; `worker` is the worker's own
DIR/usr/libexec/farm/        the emulator, so that the root needs no registration with the kernel

Tools: mmdebstrap 1.3, QEMU 7.2 user mode (statically linked), uv 0.13.9.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from farm.domain.errors import ConfigurationError
from workers.environments import MARKER, MB, lock_digest, lock_path, pins, tools, wanted
from workers.environments.installation import Installed, mark, need_disk

DESCRIPTION = "farm-root.json"
ENVIRONMENTS = "opt/farm/envs"
WORKER = "worker"
DISK_BYTES = 900 * MB
DEFAULT_CPU = "cortex-a72"
"""Never QEMU's own default, `max`: with it LiteRT's int8 kernels of version 7.2 give wrong results."""

_SUITE = "bookworm"
_PYTHON = "3.11"
_PACKAGES = (
    *("base-files", "base-passwd", "libc-bin", "coreutils", "dash", "iproute2", "ca-certificates", "tzdata"),
    *("python3", "libgomp1", "libstdc++6"),
)
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_ADDED_USER = "worker:x:1000:1000:worker:/home/worker:/bin/sh\n"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What one machine is called by everyone concerned.

    Attributes:
        machine: as uname prints it.
        platforms: of its wheels: one as uv names it, or several as pip does, where uv does not know the machine.
        environments: what its runtimes need, beside the worker's own.
        system: Debian's packages for what has no wheel; environments see them.
        left_out: the worker's packages that are Debian's.
    """

    machine: str
    debian: str
    emulator: str
    platforms: tuple[str, ...]
    cpu: str
    environments: tuple[str, ...]
    system: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


ARCHITECTURES = {
    "aarch64": Architecture(
        "aarch64", "arm64", "qemu-aarch64-static", ("aarch64-manylinux_2_28",), DEFAULT_CPU, ("onnxruntime", "litert")
    ),
    "armv7l": Architecture(
        machine="armv7l",
        debian="armhf",
        emulator="qemu-arm-static",
        platforms=("manylinux_2_34_armv7l", "manylinux_2_31_armv7l", "manylinux2014_armv7l"),
        cpu="cortex-a7",
        environments=("tflite-runtime",),
        system=("python3-numpy", "python3-yaml", "python3-cffi-backend"),
        left_out=("pyyaml", "cffi"),
    ),
}


@dataclass(frozen=True, slots=True)
class Description:
    """What a root says of itself; paths are absolute and within it."""

    architecture: str
    cpu: str
    emulator: str
    environments: str
    made_from: str


def describe(root: Path) -> Description:
    """Read a root's description.

    Raises:
        ConfigurationError: it has none, or one that can't be read.
    """
    try:
        return Description(**json.loads((root / DESCRIPTION).read_text()))
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigurationError(
            f"{root} is no root of another architecture: {exc}.",
            remedy=f"Make one: python -m workers.environments root {root}",
        ) from exc


def make_root(into: Path, machine: str) -> Installed:
    """Make a root whole or not at all; one made from the same locks is left alone.

    Raises:
        ConfigurationError: a tool is missing or failed, this user is not root, or the folder holds something else.
    """
    started, of = time.monotonic(), ARCHITECTURES[machine]
    names = (WORKER, *of.environments)
    said = Description(machine, of.cpu, f"/usr/libexec/farm/{of.emulator}", f"/{ENVIRONMENTS}", _made_from(of))
    if (into / DESCRIPTION).is_file() and describe(into) == said:
        return Installed(machine, str(into), len(names), 0.0)
    _check(into, of)
    need_disk(into, DISK_BYTES, what=f"a root for {machine}")
    part = into.with_name(f".{into.name}.part")
    wheels = part.with_suffix(".wheels")
    for left in (part, wheels, into):
        _remove(left)
    part.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        doing = [pool.submit(_extract, part, of), pool.submit(_unpack, wheels, names, of)]
    for done in doing:
        done.result()
    _finish(part, of)
    shutil.move(wheels, part / ENVIRONMENTS)
    _compile(part)
    _prove(part, said, of)
    (part / DESCRIPTION).write_text(json.dumps(asdict(said), indent=1))
    part.rename(into)
    return Installed(machine, str(into), len(names), time.monotonic() - started)


def _made_from(of: Architecture) -> str:
    """Identify everything that the root comes from, but for the state of Debian's archive."""
    parts = [Path(__file__).read_bytes(), *(lock_path(name).read_bytes() for name in (WORKER, *of.environments))]
    return sha256(b"\0".join(parts)).hexdigest()


def _check(into: Path, of: Architecture) -> None:
    if os.geteuid() != 0:
        raise ConfigurationError(f"A root for {of.machine} is made by root only.", remedy="Run it with sudo.")
    missing = [tool for tool in ("mmdebstrap", of.emulator) if shutil.which(tool) is None]
    if missing:
        raise ConfigurationError(
            f"Making a root for {of.machine} needs {' and '.join(missing)}.",
            remedy="Debian: apt install mmdebstrap qemu-user-static",
        )
    if into.exists() and any(into.iterdir()) and not (into / DESCRIPTION).is_file():
        raise ConfigurationError(f"{into} holds something that is no root of ours.", remedy="Name an empty folder.")


def _remove(folder: Path) -> None:
    """Remove a root that nothing is mounted in.

    Raises:
        ConfigurationError: something is.
    """
    if any(f" {folder.resolve()}/" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        raise ConfigurationError(f"Something is mounted below {folder}.", remedy="Stop the worker that uses it.")
    if folder.exists():
        shutil.rmtree(folder)


def _extract(part: Path, of: Architecture) -> None:
    sources = next((path for path in _SOURCES if path.exists()), _SOURCES[-1])
    argv = [
        *("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={of.debian}"),
        *(f"--include={','.join((*_PACKAGES, *of.system))}", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"),
        '--aptopt=Apt::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
        *(_SUITE, str(part), str(sources)),
    ]
    tools.call(argv, purpose=f"extract Debian {_SUITE} for {of.debian}")


def _unpack(wheels: Path, names: Sequence[str], of: Architecture) -> None:
    """Unpack the wheels of every environment as a virtual environment of the root's interpreter."""
    for name in names:
        folder = wheels / name
        packages = folder / "lib" / f"python{_PYTHON}" / "site-packages"
        packages.mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").symlink_to(f"/usr/bin/python{_PYTHON}")
        (folder / "bin" / "python").symlink_to("python3")
        sees = "true" if of.system else "false"
        (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = {sees}\n")
        argv = _installer(of)(*_wheels_of(name, of), "--target", str(packages))
        tools.call(argv, purpose=f"unpack {name} for {of.machine}", env=tools.surroundings())
        shutil.rmtree(packages / "bin", ignore_errors=True)
        mark(folder / MARKER, lock_digest(name))


def _installer(of: Architecture) -> Callable[..., list[str]]:
    return tools.pip if len(of.platforms) > 1 else tools.uv


def _wheels_of(name: str, of: Architecture) -> list[str]:
    """Say what an installer is told of an environment's wheels for another machine."""
    told = ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", _PYTHON]
    if len(of.platforms) == 1:
        return ["pip", *told, "--python-platform", *of.platforms, "-r", str(lock_path(name))]
    left_out = {*of.left_out, *wanted(name).system}
    pinned = [f"{pin}=={version}" for pin, version in pins(name).items() if pin not in left_out]
    return [*told, *(word for each in of.platforms for word in ("--platform", each)), *pinned]


def _finish(part: Path, of: Architecture) -> None:
    """Do what the scripts of the extracted packages would have done, and add the emulator."""
    for name in ("passwd", "group"):
        shutil.copy(part / f"usr/share/base-passwd/{name}.master", part / "etc" / name)
    with (part / "etc/passwd").open("a") as users, (part / "etc/group").open("a") as groups:
        users.write(_ADDED_USER)
        groups.write("worker:x:1000:\n")
    (part / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    shutil.copy(_CERTIFICATES, part / "etc/ssl/certs")
    for folder in (*part.glob("usr/lib/*/blas"), *part.glob("usr/lib/*/lapack")):
        with (part / "etc/ld.so.conf.d/alternatives.conf").open("a") as found:
            found.write(f"/{folder.relative_to(part)}\n")
    (part / "etc/resolv.conf").touch()
    (part / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    emulator = part / "usr/libexec/farm" / of.emulator
    emulator.parent.mkdir(parents=True)
    shutil.copy(shutil.which(of.emulator) or of.emulator, emulator)
    (part / ENVIRONMENTS).parent.mkdir(parents=True)


def _compile(part: Path) -> None:
    """Compile with this interpreter, whose bytecode the root's reads: emulated, it would take minutes."""
    if sysconfig.get_python_version() != _PYTHON:
        return
    folders = [str(part / "usr/lib" / f"python{_PYTHON}"), str(part / ENVIRONMENTS)]
    argv = [sys.executable, "-m", "compileall", "-q", "-j", "2", "-s", str(part), *folders]
    tools.call(argv, purpose="compile the root's modules")


def _prove(part: Path, said: Description, of: Architecture) -> None:
    """Run the root's own ldconfig, then its interpreter: the machine must be what was asked for."""
    inside = ["chroot", str(part), said.emulator, "-cpu", of.cpu]
    tools.call([*inside, "/sbin/ldconfig"], purpose="run the root's ldconfig")
    python = f"/{ENVIRONMENTS}/{WORKER}/bin/python3"
    code = "import celery, pydantic, redis, ssl, platform; print(platform.machine())"
    found = tools.call([*inside, "-0", python, python, "-c", code], purpose="run the root's interpreter").strip()
    if found != of.machine:
        raise ConfigurationError(f"The root's interpreter says it runs on {found!r}, not on {of.machine}.")
