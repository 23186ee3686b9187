"""What is remembered: tables and transactions on PostgreSQL, each transition with its outbox entry."""

from farm.ledger.session import Ledger

__all__ = ["Ledger"]
