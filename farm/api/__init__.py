"""The HTTP API under /v1: thin routes over the ledger, one table from errors to HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.api.app import Pages


def serve(pages: Pages | None = None) -> None:
    """Run the API, with web pages where `pages` makes them, until it is told to stop."""
    from farm.api.app import main

    main(pages)
