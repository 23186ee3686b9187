"""The embedded services as real processes: up, killed, adopted, two at once, down without a trace."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from farm.domain.errors import ConfigurationError, Conflict, FarmUnreachable
from farm.local import SERVICES, Stack, StackInfo, find_running, services, wheels
from farm.local.accounts import Account, unprivileged_account
from farm.local.folder import Folder
from farm.local.process import identify
from farm.local.running import record_self
from farm.local.s3 import PORT_NAMES
from farm.queue import make_app

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that PostgreSQL's account may enter, also when tests run as root; what runs in it is stopped."""
    with tempfile.TemporaryDirectory(prefix="farm-test-") as made:
        Path(made).chmod(0o711)
        yield Path(made) / "data"
        Stack(Path(made) / "data").down()


@pytest.fixture(scope="module")
def running() -> Iterator[StackInfo]:
    with services() as info:
        yield info


def ask_postgres(info: StackInfo, query: str) -> object:
    with psycopg.connect(info.database.replace("+psycopg", "")) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def s3_client(info: StackInfo):  # type: ignore[no-untyped-def]
    keys = {"aws_access_key_id": info.s3.access_key, "aws_secret_access_key": info.s3.secret_key}
    return boto3.client("s3", endpoint_url=info.s3.endpoint, region_name="us-east-1", **keys)


def processes_of(data: Path) -> list[str]:
    """List the command lines of living processes that mention the folder, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and identify(int(entry.name)):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(data) in line:
                found.append(line)
    return found


def sockets_of(data: Path) -> list[Path]:
    ports = json.loads((data / "ports.json").read_text())
    ours = [path for port in ports.values() for path in Path("/tmp").glob(f"seaweedfs-*-{port + 10_000}.sock")]
    return [*ours, *(path for path in data.rglob("*") if path.is_socket())]


def test_the_services_answer(running: StackInfo) -> None:
    assert ask_postgres(running, "select 1") == 1
    assert redis.Redis.from_url(running.redis).ping()
    s3_client(running).put_object(Bucket=running.s3.bucket, Key="blobs/x", Body=b"x")
    assert s3_client(running).get_object(Bucket=running.s3.bucket, Key="blobs/x")["Body"].read() == b"x"


def test_nobody_gets_in_without_a_password(running: StackInfo) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(running.database.replace("+psycopg", "").replace("farm:", "farm:x"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(f"redis://127.0.0.1:{running.redis.rpartition(':')[2]}").ping()
    wrong = boto3.client(
        "s3", endpoint_url=running.s3.endpoint, region_name="x", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with pytest.raises(ClientError):
        wrong.head_bucket(Bucket=running.s3.bucket)


def test_the_servers_behind_s3_give_and_take_no_files(running: StackInfo) -> None:
    s3_client(running).put_object(Bucket=running.s3.bucket, Key="blobs/secret", Body=b"secret")
    first = int(running.s3.endpoint.rpartition(":")[2])
    paths = (f"/buckets/{running.s3.bucket}/blobs/secret", "/dir/status", f"/col/delete?collection={running.s3.bucket}")

    with httpx.Client(trust_env=False) as client:
        answers = [
            client.request(method, f"http://127.0.0.1:{port}{path}").status_code
            for port in range(first + 1, first + len(PORT_NAMES))
            for path in paths
            for method in ("GET", "PUT", "POST")
        ]

    assert min(answers) >= 400
    assert s3_client(running).get_object(Bucket=running.s3.bucket, Key="blobs/secret")["Body"].read() == b"secret"


def test_the_servers_listen_on_loopback_only(running: StackInfo) -> None:
    listening = set()
    for pid in running.pids.values():
        inodes = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
        for table in ("tcp", "tcp6"):
            for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    listening.add(fields[1].partition(":")[0])

    assert listening == {"0100007F"}


def test_a_celery_worker_consumes_and_sends_events_with_the_workers_role(running: StackInfo) -> None:
    # Given a message and somebody who listens to events, as Flower does
    app = make_app(running.redis)
    app.send_task("test.unknown", args=(7,), queue="build.x86_64", ignore_result=True)
    seen: list[str] = []

    def note(event: dict[str, str]) -> None:
        seen.append(event["type"])
        receiver.should_stop = True

    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": note})

        # When a worker serves the queue with its role
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "farm.queue", "worker"),
                *("-Q", "build.x86_64", "-P", "solo", "-E", "--without-mingle", "--without-gossip"),
            ],
            env={**os.environ, "FARM_REDIS_URL": running.redis_worker},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            receiver.capture(limit=None, timeout=60, wakeup=False)
            assert worker.stdout is not None
            told = next(line for line in worker.stdout if "unregistered task" in line or "NOPERM" in line)
        finally:
            worker.kill()
            worker.wait()

    # Then its events arrive, and so did the message
    assert seen[0].startswith("worker-")
    assert "unregistered task" in told
    assert redis.Redis.from_url(running.redis).llen("build.x86_64") == 0


@pytest.mark.parametrize(
    "command", [("FLUSHALL",), ("GET", "farm:epoch"), ("SET", "farm:epoch", "x"), ("CONFIG", "GET", "*"), ("KEYS", "*")]
)
def test_the_workers_role_may_do_nothing_else(running: StackInfo, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        redis.Redis.from_url(running.redis_worker).execute_command(*command)


def test_two_stacks_run_at_once(running: StackInfo, data: Path) -> None:
    with services(data) as other:
        redis.Redis.from_url(other.redis).set("whose", "the other's")

        assert redis.Redis.from_url(running.redis).get("whose") is None
        assert {running.database, running.redis, running.s3.endpoint}.isdisjoint(
            {other.database, other.redis, other.s3.endpoint}
        )
        assert ask_postgres(running, "select 1") == ask_postgres(other, "select 1") == 1


def test_a_killed_part_is_restarted_and_a_killed_supervisors_parts_are_adopted(data: Path) -> None:
    # Given a supervised stack with something in it
    stack = Stack(data)
    before = stack.up(parts=SERVICES)
    redis.Redis.from_url(before.redis).set("kept", "yes")
    s3_client(before).put_object(Bucket=before.s3.bucket, Key="blobs/kept", Body=b"yes")

    # When each part is killed, Then it comes back under another pid, told in stack.json, with its data
    for part in SERVICES:
        old = stack.kill(part)
        new = stack.await_restart(part, old)
        assert json.loads((data / "stack.json").read_text())["pids"][part] == new != old
    assert redis.Redis.from_url(before.redis).get("kept") == b"yes"
    assert s3_client(before).get_object(Bucket=before.s3.bucket, Key="blobs/kept")["Body"].read() == b"yes"
    assert ask_postgres(before, "select 1") == 1

    # When the supervisor is killed, Then the parts live on, and the next one adopts them
    parts = {part: stack.pid(part) for part in SERVICES}
    stack.kill("supervisor")
    after = stack.up(parts=SERVICES)
    assert {part: after.pids[part] for part in SERVICES} == parts
    assert after.pids["supervisor"] != before.pids["supervisor"]

    # And the adopted ones are restarted, too
    assert stack.await_restart("redis", stack.kill("redis")) != parts["redis"]

    # When it is brought down, Then nothing of it is left but its data
    assert find_running(data) is not None
    stack.down()
    assert processes_of(data) == []
    assert sockets_of(data) == []
    assert find_running(data) is None
    assert not (data / "stack.json").exists()


def test_a_part_that_is_held_back_stays_down_until_it_is_released(data: Path) -> None:
    stack = Stack(data)
    info = stack.up(parts=("redis",))

    stack.stop("redis")
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(info.redis).ping()
    stack.start("redis")

    assert redis.Redis.from_url(info.redis).ping()


def test_up_on_a_running_stack_says_the_same_again(data: Path) -> None:
    stack = Stack(data)

    assert stack.up(parts=("redis",)) == stack.up(parts=("redis",))


def test_two_that_bring_a_fresh_stack_up_at_once_get_the_same_one(data: Path) -> None:
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: Stack(data).up(parts=("redis",)), range(2))

    assert first == second
    assert redis.Redis.from_url(first.redis).ping()


def test_the_address_of_the_api_is_kept_and_does_not_change_under_a_running_one(data: Path) -> None:
    Stack(data, listen="127.0.0.1:23456").up(parts=("redis",))
    assert Stack(data).up(parts=("redis",)).api == "http://127.0.0.1:23456"

    # Given an API that runs (any process of ours that is written down as it)
    record_self(Folder(data), "api", level=1)
    with pytest.raises(Conflict, match=r"listens at 127\.0\.0\.1:23456"):
        Stack(data, listen="127.0.0.1:23457").up(parts=("redis",))
    (data / "run" / "api.json").unlink()


def test_a_foreground_stack_stops_in_order_at_ctrl_c(data: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from farm.local import *\n"
        "Stack(Path(sys.argv[1])).run(parts=SERVICES, on_progress=print, on_ready=lambda info: print('UP', flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(data)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line == "UP\n":
            break

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    rest = process.communicate(timeout=60)[0]

    assert process.returncode == 0, seen
    assert [f"{part}: stopped" in rest for part in SERVICES] == [True] * 3
    assert processes_of(data) == []
    assert sockets_of(data) == []


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(data: Path) -> None:
    with services(data):
        pass
    (data / "postgres" / "global" / "pg_control").unlink()

    with pytest.raises(FarmUnreachable, match=r"The part postgres ended") as caught:
        Stack(data).up(parts=SERVICES)

    assert "pg_control" in str(caught.value.evidence["log_tail"])
    assert processes_of(data) == []


def test_a_taken_port_is_refused_and_named(running: StackInfo, data: Path) -> None:
    # Given a folder whose redis port another stack uses
    port = int(running.redis.rpartition(":")[2].partition("/")[0])
    Folder(data).open()
    (data / "ports.json").write_text(json.dumps({"redis": port}))

    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}, where redis listens"):
        Stack(data).up(parts=("redis",))


def test_what_an_interrupted_start_left_is_cleaned_and_a_stranger_is_not(data: Path) -> None:
    # Given a process that was started for this stack but never written down, and a record whose pid is a stranger's now
    Folder(data).open()
    sleep = ["sleep", "600"]
    stray = subprocess.Popen(sleep, env={"FARM_STACK": str(data), "PATH": os.environ["PATH"]}, start_new_session=True)
    stranger = subprocess.Popen(sleep, start_new_session=True)
    record = {"part": "redis", "level": 0, "argv": [], "started": "2026-01-01T00:00:00+00:00"}
    identity = {"pid": stranger.pid, "start_ticks": 1, "boot": "an earlier one"}
    (data / "run" / "redis.json").write_text(
        json.dumps({**record, "identity": identity, "stop_signal": 15, "stop_within_s": 1.0})
    )

    Stack(data).up(parts=("redis",))

    assert stray.wait(timeout=10) == -signal.SIGKILL
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@as_root
@pytest.mark.root
def test_a_folder_that_postgres_account_cannot_reach_is_refused_by_name(data: Path) -> None:
    private = data.parent / "private"
    private.mkdir(mode=0o700)

    with pytest.raises(ConfigurationError, match=rf"may not enter {private}, ") as caught:
        Stack(private / "data").up(parts=SERVICES)

    assert caught.value.evidence["folder"] == str(private)
    assert list(private.iterdir()) == []
    assert private.stat().st_mode & 0o777 == 0o700


@as_root
@pytest.mark.root
def test_a_server_that_its_account_cannot_reach_is_copied(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an installation below a private folder
    private = data.parent / "private"
    private.mkdir(mode=0o700)
    installed = wheels.postgres_folder(None, data).parent
    (private / installed.name).symlink_to(installed)
    (private / f"{installed.name}.libs").symlink_to(f"{installed}.libs")
    monkeypatch.setattr(wheels, "_package_folder", lambda *_names: private / installed.name)
    account = unprivileged_account(data)
    assert account is not None
    data.mkdir()

    programs = wheels.postgres_folder(account, data)

    assert programs.is_relative_to(data)
    told = subprocess.run([programs / "bin" / "postgres", "--version"], user=account.uid, stdout=subprocess.PIPE)
    assert b"(PostgreSQL)" in told.stdout


def interpreter_for(account: Account) -> str:
    """Find an interpreter of our version that the account may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"]
    for path in map(Path, candidates):
        if path.exists() and all(account.blocked_at(way) is None for way in (path.parent, path.resolve().parent)):
            return str(path)
    pytest.fail(f"{account.name} may run none of {candidates}")


@pytest.fixture
def run_as_nobody(data: Path) -> Callable[[str], str]:
    entry = pwd.getpwnam("nobody")
    account = Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    os.chown(data.parent, account.uid, account.gid)
    python = interpreter_for(account)

    def run(script: str) -> str:
        ended = subprocess.run(
            [python, "-c", script, str(data)],
            env={"PYTHONPATH": f"{ROOT}:{Path(psycopg.__file__).parents[1]}", "PATH": "/usr/bin:/bin"},
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@as_root
@pytest.mark.root
def test_an_ordinary_user_runs_a_stack(data: Path, run_as_nobody: Callable[[str], str]) -> None:
    told = run_as_nobody(
        "import sys, os; from pathlib import Path; from farm.local import *\n"
        "stack = Stack(Path(sys.argv[1])); stack.up(parts=SERVICES)\n"
        "stack.await_restart('redis', stack.kill('redis'))\n"
        "pids = stack.info().pids.values()\n"
        "print(os.geteuid(), {Path(f'/proc/{pid}').stat().st_uid for pid in pids}); stack.down()"
    )

    assert told == "65534 {65534}\n"
    assert processes_of(data) == []
    assert sockets_of(data) == []


@as_root
@pytest.mark.root
def test_postgres_does_not_run_as_root(running: StackInfo) -> None:
    assert Path(f"/proc/{running.pids['postgres']}").stat().st_uid != 0


def test_the_data_of_services_is_thrown_away() -> None:
    before = set(Path(tempfile.gettempdir()).glob("farm-services-*"))
    with services() as info:
        assert info.pids.keys() == set(SERVICES)

    assert set(Path(tempfile.gettempdir()).glob("farm-services-*")) <= before
    assert shutil.which("weed") is None or not any(identify(pid) for pid in info.pids.values())
