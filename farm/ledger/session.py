"""The ledger's connection: transactions, migrations, notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from farm.domain.errors import FarmUnreachable

T = TypeVar("T")
CHANNEL = "farm"
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x6661726D
_LOST_RACES = ("40P01", "40001")
"""SQLSTATE of deadlock_detected and serialization_failure: run the transaction again."""


class Ledger:
    """Open transactions on one PostgreSQL database."""

    def __init__(self, url: str, *, application: str = "farm", pool_size: int = 16) -> None:
        """Connect on first use; `application` is how PostgreSQL lists the connections."""
        self.url = url
        named = {"application_name": application}
        self.engine = create_engine(url, pool_size=pool_size, max_overflow=8, pool_pre_ping=True, connect_args=named)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit on success, roll back on any exception.

        Raises:
            FarmUnreachable: PostgreSQL does not answer.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except (OperationalError, InterfaceError) as exc:
            if _lost_race(exc):
                raise
            raise FarmUnreachable(f"The ledger does not answer: {str(exc.orig).strip()}") from exc
        except PoolTimeout as exc:
            raise FarmUnreachable("All connections to the ledger are in use; none became free in time.") from exc

    def run(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction, again when it lost a race with another one."""
        attempt = retry(
            retry=retry_if_exception(_lost_race),
            stop=stop_after_attempt(8),
            wait=wait_random_exponential(0.02, 1),
            reraise=True,
        )

        def once() -> T:
            with self.transaction() as session:
                return work(session)

        return attempt(once)()

    def migrate(self) -> None:
        """Bring the schema to this version; concurrent callers wait for one another."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self.engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def ping(self) -> None:
        with self.transaction() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


def notify(session: Session, topic: str) -> None:
    """Tell listeners of `topic` once this transaction commits; equal topics within it are told once."""
    session.execute(text("SELECT pg_notify(:channel, :topic)"), {"channel": CHANNEL, "topic": topic})


def take_alone(session: Session, name: str) -> None:
    """Have transactions that take equal names wait for one another until this one ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def _lost_race(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _LOST_RACES
