"""TorchServe's `/token`: a new key for inference or management, for those who have the API key.

The answer does not hold the key; it is in the key file, as in TorchServe.
"""

from __future__ import annotations

import asyncio
import logging

from predictor.errors import InvalidToken, MethodNotAllowed, PredictorError
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.protocols.pretty import render_error
from predictor.trust.errors import TrustError
from predictor.trust.guard import Guard
from predictor.trust.key_file import KeyFile
from predictor.trust.role import ROUTE_ROLES, Role

logger = logging.getLogger(__name__)

_ROLES = {role.value: role for role in ROUTE_ROLES}


class TokenProtocol:
    """Answers `/token?type=inference` and `/token?type=management`."""

    label = "management"

    def __init__(self, keys: KeyFile) -> None:
        """Renew keys of `keys`."""
        self._keys = keys
        self._guard = Guard([keys])

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request.

        Raises:
            InvalidToken: no API key, or no such kind of key.
        """
        if request.method != "GET":
            raise MethodNotAllowed(("GET",))
        role = _ROLES.get(dict(request.query()).get("type", ""))
        if role is None or not self._guard.admits(Role.API, request.header("authorization")):
            raise InvalidToken("Authentication")
        try:
            await asyncio.to_thread(self._keys.renew, role)
        except TrustError as error:
            logger.error("%s", error)
            raise PredictorError("The key file cannot be written") from error
        logger.info("a new %s key is in %s", role.value, self._keys.path)
        return json_response(b"\n")

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return TorchServe's error body."""
        return render_error(error)
