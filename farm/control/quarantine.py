"""Hosts that break steps leave rotation, where a peer is there to take their work."""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from farm.ledger import breakages, hosts
from farm.settings import Settings

log = structlog.get_logger()


def quarantine_breakers(session: Session, config: Settings) -> bool:
    """Take hosts out of rotation on which too many steps broke lately; False, since nothing more is due now.

    Only what is the host's to mend counts: lost leases, full disks, transfers and times that no clock gives. A host
    without a peer stays, since nothing would be gained; its operator is told.
    """
    within_s, limit = config.host_failures_within_s, config.host_failures_max
    for breaker in breakages.lately(session, within_s=within_s, at_least=limit):
        why = (
            f"{breaker.steps} steps broke on it within {within_s / 60:.0f} minutes (the limit is {limit}), "
            f"the last with {breaker.code}: {breaker.message}"
        )
        if breakages.has_peer(session, breaker.host, grace_s=config.host_grace_s):
            hosts.quarantine(session, breaker.host, why, max_attempts=config.max_attempts)
            log.warning("A host was quarantined.", action="quarantine", host=breaker.host, reason=why)
        else:
            hosts.note(session, breaker.host, f"{why} It stays in rotation: no other live host serves its target.")
    return False
