"""The farm's pages: `farm.web.router.router(views)` makes them from any source of data that is a `Views`."""
