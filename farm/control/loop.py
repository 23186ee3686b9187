"""Control's loop: wait for a notification or a tick, then do what is due.

Any number of controls may run: work is claimed by row locks, there is no leader.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.orm import Session

from farm.control.advance import advance_next
from farm.control.messages import republish, send_outbox
from farm.control.publishing import publish_next
from farm.domain.errors import FarmError
from farm.ledger import Ledger
from farm.ledger.attempts import lose_expired
from farm.ledger.events import CONTROL
from farm.ledger.files import take_expired_uploads
from farm.ledger.listen import Listener
from farm.ledger.steps import OUTBOX
from farm.queue import Broker, make_app
from farm.settings import Settings, settings
from farm.store import Store

log = structlog.get_logger()
RETENTION_EVERY_S = 300.0


@dataclass(slots=True)
class Duty:
    """One thing control does: `work` in a transaction, again while it says there is more."""

    name: str
    work: Callable[[Session], object]
    every_s: float = 0.0
    due: float = field(default=0.0)

    def run(self, ledger: Ledger, now: float) -> None:
        """Do it when due; a part that does not answer is said once per tick and tried again."""
        if now < self.due:
            return
        self.due = now + self.every_s
        try:
            while ledger.run(self.work) is True:
                pass
        except FarmError as error:
            log.warning("A duty of control could not be done.", action=self.name, code=error.code, reason=error.message)


class Control:
    """The parts control works with, and its duties in their order."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.ledger = Ledger(config.database_url.get_secret_value(), pool_size=4)
        self.store = Store(config)
        self.app = make_app(config.redis_url.get_secret_value())
        self.broker = Broker(config.redis_url.get_secret_value())
        self.stopping = threading.Event()
        tick_s = config.control_tick_s
        self.duties = [
            Duty("lose-expired-leases", lambda s: lose_expired(s, max_attempts=config.max_attempts) == 50, tick_s),
            Duty("advance-jobs", lambda s: advance_next(s, config)),
            Duty("send-outbox", lambda s: send_outbox(s, self.app, config) == 100),
            Duty("publish-results", lambda s: publish_next(s, self.store)),
            Duty("advance-published", lambda s: advance_next(s, config)),
            Duty("republish-lost", lambda s: republish(s, self.app, self.broker, config), tick_s),
            Duty("expire-uploads", self._expire_uploads, RETENTION_EVERY_S),
        ]

    def run(self) -> None:
        """Work until stopped."""
        with Listener(self.config.database_url.get_secret_value(), (CONTROL, OUTBOX)) as listener:
            while not self.stopping.is_set():
                now = time.monotonic()
                for duty in self.duties:
                    duty.run(self.ledger, now)
                listener.wait(self.config.control_tick_s)

    def stop(self, *_: object) -> None:
        self.stopping.set()

    def _expire_uploads(self, session: Session) -> None:
        for upload_id, multipart_id in take_expired_uploads(session, older_than_s=self.config.upload_retention_s):
            self.store.abort(upload_id, multipart_id)


def main() -> None:
    """Run control as a process of its own."""
    control = Control(settings())
    signal.signal(signal.SIGTERM, control.stop)
    signal.signal(signal.SIGINT, control.stop)
    log.info("Control is at work.", action="start")
    control.run()
