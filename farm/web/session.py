"""Who looks at a page: a user's token in a cookie that scripts and other sites can't use."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from fastapi import Request, Response

from farm.domain.errors import BadRequest, Unauthorized

COOKIE = "farm_token"
LIFETIME_S = 12 * 3600
LONGEST_FORM_BYTES = 16 << 10


def token_of(request: Request) -> str:
    """Return the caller's token.

    Raises:
        Unauthorized: not signed in.
    """
    token = request.cookies.get(COOKIE)
    if not token:
        raise Unauthorized("You are not signed in.")
    return token


def sign_in(response: Response, token: str, *, secure: bool) -> None:
    response.set_cookie(COOKIE, token, max_age=LIFETIME_S, httponly=True, samesite="strict", secure=secure, path="/")


def sign_out(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


async def form_of(request: Request) -> dict[str, str]:
    """Read an urlencoded form that our own page sent.

    Raises:
        BadRequest: it came from another site, is too long, or no form.
    """
    _require_same_origin(request)
    body = await request.body()
    if len(body) > LONGEST_FORM_BYTES:
        raise BadRequest(f"The form has {len(body)} bytes; {LONGEST_FORM_BYTES} is the limit.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError as exc:
        raise BadRequest(f"The form can't be read: {exc}.") from exc
    return {name: values[-1] for name, values in fields.items()}


def _require_same_origin(request: Request) -> None:
    """Refuse a form of another site; browsers name the origin, and programs have no cookie to be misused."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign_origin = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if site not in (None, "same-origin", "none") or foreign_origin:
        raise BadRequest("The form was sent from another site.", remedy="Open the farm's own page and send it there.")


def local_path(target: str | None) -> str:
    """Return where to go after signing in: a path of ours, never another site's."""
    is_ours = bool(target) and target is not None and target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_ours and target is not None and "\\" not in target else "/"
