"""The service over HTTP: JSON, bytes of pictures and CSV in, JSON out; with limits."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapt.app.serving.door import Door
from adapt.app.serving.service import Csv, Service
from adapt.budget import served
from adapt.errors import AdaptError
from adapt.files import parse_json
from adapt.version import __version__

__all__ = ["application"]

PAGE = Path(__file__).with_name("page.html")
#: Requests that are worked on at a time: what one takes in memory is many times its size.
TURNS = 2
#: Bytes of the body of a request; ``ADAPT_SERVE_MB`` megabytes where that is set.
BODY = 16
#: Characters of an error.
LONGEST = 1000
#: Seconds that a body may take to arrive.
PATIENCE = 30.0
#: What to do about a body that is no JSON.
JSON = 'send JSON, such as "a text" in quotation marks, or {"column": 1.5}'
#: What the page may load: itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def application(service: Service, door: Door) -> Any:
    """The FastAPI application.

    Args:
        service: what answers.
        door: which requests are let in.

    Raises:
        AdaptError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import HTMLResponse, JSONResponse, Response
    except ImportError as error:
        raise AdaptError('serving needs FastAPI: pip install "adaptive-behavior[serve]"') from error

    app = FastAPI(title="Adaptive Behavior", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_AtTheDoor, door=door)
    turns = asyncio.Semaphore(TURNS)
    html = PAGE.read_text(encoding="utf-8")
    script = PAGE.with_name("page.js").read_text(encoding="utf-8")

    async def body(request: Request) -> bytes:
        most = served(BODY)
        said = request.headers.get("content-length", "0")
        content = bytearray()
        if said.isdecimal() and int(said[:20]) > most:
            raise _TooLarge(f"a request has {most:,} bytes at most: send several")
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise _TooLarge(f"a request has {most:,} bytes at most: send several")
        return bytes(content)

    async def answered(request: Request, answer: Callable[[Any], dict[str, Any]]) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        content = await body(request)

        def work() -> bytes:  # all of it, that the others who are here are answered meanwhile
            return json.dumps(answer(_value(kind, content, service)), ensure_ascii=False).encode()

        async with turns:
            return Response(await run_in_threadpool(work), media_type="application/json")

    @app.exception_handler(AdaptError)
    async def refused(_: Request, error: AdaptError) -> Response:
        said = str(error)  # which may quote what was sent
        said = said if len(said) <= LONGEST else f"{said[:LONGEST]} …"
        return JSONResponse({"error": said}, getattr(error, "status", 400))

    @app.exception_handler(TimeoutError)
    async def slow(_: Request, error: TimeoutError) -> Response:
        return JSONResponse({"error": f"the request did not arrive within {PATIENCE:.0f} s"}, 408)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(
            html, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        )

    @app.get("/page.js")
    async def code() -> Response:
        return Response(script, media_type="text/javascript")

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)  # a browser asks, whatever a page says

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok"}

    @app.get("/version")
    async def version() -> dict[str, Any]:
        return {"adapt": __version__, "network": service.about()["network"]}

    @app.get("/about")
    async def about() -> dict[str, Any]:
        return service.about()

    @app.get("/watch")
    async def watch() -> dict[str, Any]:
        return service.watched()

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        return await answered(request, lambda value: {"predictions": service.predict(value)})

    @app.post("/correct")
    async def correct(request: Request, label: str) -> Response:
        return await answered(request, lambda value: {"corrections": service.correct(value, label)})

    return app


class _AtTheDoor:
    """Around the application: what is not let in goes no further."""

    def __init__(self, app: Any, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import JSONResponse

        refused = (
            self._door.refusal(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        )
        if refused is None:
            await self._app(scope, receive, send)
        else:
            status, why = refused
            await JSONResponse({"error": why}, status)(scope, receive, send)


class _TooLarge(AdaptError):
    status = 413


class _Unsupported(AdaptError):
    status = 415


def _value(kind: str, content: bytes, service: Service) -> Any:
    """What a reader takes of the body of a request."""
    if not content:
        raise AdaptError("the request is empty")
    if kind == "application/json":
        value = parse_json(content, "the request", fix=JSON)
        if isinstance(value, dict) and set(value) == {"inputs"}:
            value = value["inputs"]
        if service.answer.reader.kind == "pictures":
            raise _Unsupported("send the bytes of a picture, with its content type (image/png, image/jpeg)")
        return value
    if kind.startswith("image/") or kind == "application/octet-stream":
        if service.answer.reader.kind != "pictures":
            raise _Unsupported(f"this model reads {service.answer.reader.many}: send JSON or text/csv")
        return content
    if kind == "text/csv":
        return Csv(content)
    raise _Unsupported(f"content type {kind or 'none'}: send application/json, text/csv or image/…")
