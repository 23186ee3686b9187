"""Run migrations on the connection that Ledger.migrate hands over."""

from alembic import context

from farm.ledger.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=False,
)
context.run_migrations()
