"""The loop that moves jobs on: choice of routes, outbox, leases, re-publishing, publishing of results, retention."""


def serve() -> None:
    """Run control until it is told to stop."""
    from farm.control.loop import main

    main()
