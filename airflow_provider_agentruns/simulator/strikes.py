"""Carry a fault out on a request."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from airflow_provider_agentruns.simulator.calls import LIMIT_MESSAGE, Answer, ApiError, VendorApi
from airflow_provider_agentruns.simulator.faults import Fault
from airflow_provider_agentruns.simulator.state import SimulatorState

_LOOK_SECONDS = 0.05
_HTML = (
    "<html><head><title>{0}</title></head><body><h1>{0}</h1><p>The gateway has no answer.</p></body></html>"
)


async def strike(
    fault: Fault, request: web.Request, api: VendorApi, state: SimulatorState, answer: Answer | None
) -> web.StreamResponse | None:
    """Answer the request as the fault wants it.

    :param answer: what the vendor would have answered, if the request has taken effect already.
    :returns: None if the request is to go on, late; `web.StreamResponse` otherwise, perhaps of a connection
        that is closed by now.
    """
    if fault.kind == "latency":
        await state.pause(fault.seconds)
        return None
    if fault.kind == "hang":
        while request.transport is not None and not await state.pause(_LOOK_SECONDS):
            pass
        return _cut_off(request)
    if fault.kind == "reset":
        return await _reset(fault, request, answer)
    if fault.kind == "truncated_json":
        body, content_type = await _body(answer)
        return web.Response(body=body[: len(body) // 2], content_type=content_type)
    status = HTTPStatus(fault.status or HTTPStatus.BAD_GATEWAY)
    if fault.kind == "html":
        text = _HTML.format(f"{status} {status.phrase}")
        return web.Response(text=text, status=status, content_type="text/html")
    return _refuse(fault, status, api, state)


def _refuse(fault: Fault, status: HTTPStatus, api: VendorApi, state: SimulatorState) -> web.Response:
    headers = {}
    if fault.retry_after is not None:
        seconds = math.ceil(fault.retry_after)
        as_date = fault.retry_after_as == "date"
        headers["Retry-After"] = formatdate(state.now + seconds, usegmt=True) if as_date else str(seconds)
    limited = status == HTTPStatus.TOO_MANY_REQUESTS
    message = LIMIT_MESSAGE if limited else status.phrase
    return web.json_response(api.error_body(ApiError(status, message)), status=status, headers=headers)


async def _reset(fault: Fault, request: web.Request, answer: Answer | None) -> web.StreamResponse:
    if fault.half:
        body, content_type = await _body(answer)
        response = web.StreamResponse(headers={"Content-Type": content_type})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        # A reset also throws away what the client has not read yet; it is to see the half.
        await asyncio.sleep(_LOOK_SECONDS)
        _cut_off(request)
        return response
    return _cut_off(request)


async def _body(answer: Answer | None) -> tuple[bytes, str]:
    if answer is None:
        raise TypeError("a fault that shows a part of the answer strikes after the effect")
    return await answer.first_bytes(), answer.content_type


def _cut_off(request: web.Request) -> web.StreamResponse:
    """Reset the connection, so that the client sees neither an answer nor an orderly end."""
    if request.transport is not None:
        peer = request.transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()
