"""Whether a host's lock is held by another farm on its machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("host", sa.Column("lock_held_elsewhere", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.alter_column("host", "lock_held_elsewhere", server_default=None)


def downgrade() -> None:
    op.drop_column("host", "lock_held_elsewhere")
