"""Templates to answers, under a strict content security policy."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import ChoiceLoader, Environment, PackageLoader

from farm.domain.errors import FarmError, NotFound, Unauthorized
from farm.report.page import TEMPLATES, environment

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageRoute(APIRoute):
    """A route whose errors are pages: not signed in leads to the sign-in, the rest says what to do."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except Unauthorized:
                return to_login(request)
            except FarmError as error:
                return explain(request, error)

        return handle_or_explain


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template; `here` lets the navigation mark where the reader is."""
    html = _environment().get_template(template).render(here=request.url.path, **values)
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def explain(request: Request, error: FarmError) -> HTMLResponse:
    status = 404 if isinstance(error, NotFound) else 400
    return page(request, "error.html", status=status, error=error)


def to_login(request: Request) -> Response:
    """Lead to the sign-in; a part of a page says 401, so that its script can reload the whole."""
    if request.headers.get("sec-fetch-dest") == "empty" or request.url.path.endswith(("/live", "/events")):
        return Response(status_code=401, headers=HEADERS)
    return see(f"/login?next={quote(request.url.path)}")


def see(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303, headers=HEADERS)


@cache
def _environment() -> Environment:
    made = environment(ChoiceLoader([PackageLoader("farm.web"), TEMPLATES]))
    made.filters["ago"] = _ago
    return made


def _ago(age_s: float) -> str:
    from farm.report.text import seconds

    return "now" if age_s < 1 else f"{seconds(age_s)} ago"
