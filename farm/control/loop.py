"""Control's loops: wait for a notification or a tick, then do what is due.

Loops run beside one another, so that neither planning nor a slow store holds up a message, and a silent broker
never holds up a lease: moving jobs on, sending messages, publishing results, and watching over leases, lost messages
and leftovers. Any number of controls may run: work is claimed by row locks, there is no leader.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.orm import Session

from farm.control.advance import advance_next
from farm.control.messages import Republisher, send_outbox
from farm.control.publishing import publish_next
from farm.control.quarantine import quarantine_breakers
from farm.control.selftests import ask_due, begin_tests, judge_tests
from farm.control.stuck import StuckSteps
from farm.domain.errors import FarmError
from farm.ledger import Ledger
from farm.ledger.attempts import lose_expired
from farm.ledger.events import CONTROL, PUBLISHING
from farm.ledger.files import take_expired_uploads
from farm.ledger.listen import Listener
from farm.ledger.steps import OUTBOX
from farm.queue import Broker, make_app
from farm.settings import Settings, settings
from farm.store import Store

log = structlog.get_logger()
PUBLISHERS = ("publishing-1", "publishing-2", "publishing-3")
"""Publishing waits for the store most of the time."""
RETENTION_EVERY_S = 300.0
STUCK_EVERY_S = 5.0
SELF_TESTS_EVERY_S = 60.0
HOSTS_EVERY_S = 2.0


@dataclass(slots=True)
class Duty:
    """One thing control does: `work` in a transaction, again while it returns True (there is more)."""

    name: str
    work: Callable[[Session], bool]
    every_s: float = 0.0
    due: float = field(default=0.0)

    def run(self, ledger: Ledger, now: float) -> None:
        """Do it when due; a part that does not answer is said and tried again at the next tick."""
        if now < self.due:
            return
        self.due = now + self.every_s
        try:
            while ledger.run(self.work):
                pass
        except FarmError as error:
            log.warning("A duty of control could not be done.", action=self.name, code=error.code, reason=error.message)


@dataclass(frozen=True, slots=True)
class Loop:
    """A thread with its duties, in their order, and the topics that wake it."""

    name: str
    topics: Collection[str]
    duties: Sequence[Duty]

    def run(self, ledger: Ledger, stopping: threading.Event, tick_s: float) -> None:
        with Listener(ledger.url, self.topics) as listener:
            while not stopping.is_set():
                now = time.monotonic()
                for duty in self.duties:
                    duty.run(ledger, now)
                listener.wait(tick_s)


class Control:
    """The parts control works with, and its loops."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.ledger = Ledger(config.database_url.get_secret_value(), application="farm-control", pool_size=4)
        self.stopping = threading.Event()
        app = make_app(config.redis_url.get_secret_value())
        lost = Republisher(app, Broker(config.redis_url.get_secret_value()), config)
        store = Store(config)
        self.loops = (
            Loop("moving", (CONTROL,), (Duty("advance-jobs", lambda s: advance_next(s, config)),)),
            Loop("sending", (OUTBOX,), (Duty("send-outbox", lambda s: send_outbox(s, app, config)),)),
            *(
                Loop(name, (PUBLISHING,), (Duty("publish-results", lambda s: publish_next(s, store)),))
                for name in PUBLISHERS
            ),
            Loop(
                "testing-hosts",
                (CONTROL,),
                (
                    Duty("ask-due-self-tests", lambda s: ask_due(s, config), SELF_TESTS_EVERY_S),
                    Duty("begin-self-tests", lambda s: begin_tests(s, store, config), HOSTS_EVERY_S),
                    Duty("judge-self-tests", lambda s: judge_tests(s, config), HOSTS_EVERY_S),
                    Duty("quarantine-breakers", lambda s: quarantine_breakers(s, config), HOSTS_EVERY_S),
                ),
            ),
            Loop(
                "watching",
                (),
                (
                    Duty("lose-expired-leases", lambda s: lose_expired(s, max_attempts=config.max_attempts)),
                    Duty("republish-lost", lost.republish),
                    Duty("give-up-stuck-steps", StuckSteps(config.host_grace_s).give_up, STUCK_EVERY_S),
                    Duty("expire-uploads", lambda s: _expire_uploads(s, store, config), RETENTION_EVERY_S),
                ),
            ),
        )

    def run(self) -> None:
        """Work until stopped; a loop that breaks ends control, and its supervisor starts it again."""
        threads = [threading.Thread(target=self._guarded, args=(loop,), name=loop.name) for loop in self.loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self, *_: object) -> None:
        self.stopping.set()

    def _guarded(self, loop: Loop) -> None:
        try:
            loop.run(self.ledger, self.stopping, self.config.control_tick_s)
        finally:
            self.stopping.set()


def _expire_uploads(session: Session, store: Store, config: Settings) -> bool:
    for upload_id, multipart_id in take_expired_uploads(session, older_than_s=config.upload_retention_s):
        store.abort(upload_id, multipart_id)
    return False


def main() -> None:
    """Run control as a process of its own."""
    control = Control(settings())
    signal.signal(signal.SIGTERM, control.stop)
    signal.signal(signal.SIGINT, control.stop)
    log.info("Control is at work.", action="start")
    control.run()
