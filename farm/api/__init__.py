"""The HTTP API under /v1: thin routes over the ledger, one table from errors to HTTP."""


def serve() -> None:
    """Run the API until it is told to stop."""
    from farm.api.app import main

    main()
