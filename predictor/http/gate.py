"""What a listener looks at before a request reaches its protocol: the token, and the page it comes from."""

from __future__ import annotations

from predictor.errors import InvalidToken
from predictor.http.messages import HttpRequest, HttpResponse
from predictor.trust.access import Port, role_of_route
from predictor.trust.cors import Cors, is_preflight
from predictor.trust.guard import Guard
from predictor.trust.role import ROUTE_ROLES


class Gate:
    """The rules of one listener."""

    def __init__(
        self, port: Port = Port.INFERENCE, guard: Guard | None = None, cors: Cors | None = None
    ) -> None:
        """Guard a listener that is for `port`.

        Args:
            guard: knows the tokens; None asks for none.
            cors: headers for browsers; None sends none.
        """
        self._port = port
        self._guard = guard
        self._cors = cors

    def admit(self, request: HttpRequest) -> None:
        """Let a request pass, and note in it whether it brought a token for what it may be told.

        Raises:
            InvalidToken: it needs one.
        """
        if self._guard is None:
            return
        authorization = request.header("authorization")
        role = role_of_route(self._port, request.method, request.path)
        wanted = ROUTE_ROLES if role is None else (role,)
        request.trusted = any(self._guard.admits(each, authorization) for each in wanted)
        if role is not None and not request.trusted:
            raise InvalidToken

    def preflight(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a browser's preflight, None where it is none or nothing is configured."""
        if self._cors is None or not is_preflight(request.method, request.headers):
            return None
        return HttpResponse(204, headers=self._cors.preflight_headers())

    def headers(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Return the headers that this listener adds to every response."""
        return self._cors.response_headers(request.header("origin")) if self._cors is not None else []
