"""The server of `mien label`: addresses and page, on the ground of `mien.serve`.

Who may ask, what every answer carries, and the limits on connections and requests are those of `mien serve`.
"""

from __future__ import annotations

import gc
import json
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mien._version import __version__
from mien.errors import ConfigError
from mien.faceset.row import FaceRow
from mien.files import clipped
from mien.label.config import LabelConfig
from mien.label.copies import CopySearch
from mien.label.learning import Learning
from mien.label.pictures import MOST, SIZES_PX, Pictures
from mien.label.training import Training
from mien.label.wall import Wall
from mien.serve import server
from mien.serve.app import PAGE as SERVE_PAGE
from mien.serve.app import page_of
from mien.serve.auth import Key
from mien.serve.config import MEGA, ServeConfig
from mien.serve.metrics import Metrics
from mien.serve.middleware import Middleware
from mien.serve.problems import ApiError, add_handlers
from mien.serve.uploads import LimitedBody
from mien.terminal import leave_threads_behind, say

PAGE = Path(__file__).parent / "page"
_KEPT = {"Cache-Control": "private, max-age=3600"}  # pictures of one session never change
# A report has its style and pictures in itself; names in it are text, and nothing in it may run or ask anybody.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)

_LONGEST_KEY = 100

router = APIRouter(prefix="/v1")


@dataclass
class LabelService:
    """What the addresses share; the fields that the layer asks for: `mien.serve.middleware.Served`."""

    config: ServeConfig
    wall: Wall
    pictures: Pictures
    learning: Learning | None
    copies: CopySearch
    training: Training
    who: str
    metrics: Metrics
    keys: tuple[Key, ...] = ()
    draining: bool = False
    connections: Collection[object] = ()
    max_connections: int = sys.maxsize


def run(folder: Path, config: LabelConfig, ready: Callable[[str], None]) -> int:
    """Serve the page of one face set until SIGTERM or Ctrl-C; return the exit code.

    ready: called once requests are answered, with the address. Raises MienError where the face set, its answers or the
    address cannot be had.
    """
    settings = config.serve
    before = signal.signal(signal.SIGTERM, server.leave)  # until uvicorn takes it
    try:
        with server.listen(settings) as taken:
            wall = Wall.open(folder, config.classes, config.who)
            gc.freeze()  # a hundred thousand faces stay to the end: looking through them again would hold up answers
            pictures = Pictures()
            learning = Learning(wall) if config.learn else None
            copies = CopySearch(wall)
            training = Training(wall)
            try:
                service = LabelService(
                    settings, wall, pictures, learning, copies, training, config.who, Metrics()
                )
                _serve(service, taken, lambda: ready(server.address_of(settings, taken)))
            finally:
                training.close()
                ended = [copies.close(), learning is None or learning.close()]
                pictures.close()
                wall.close()
                if wall.problem:  # the page, which has said so, is gone
                    say(f"mien: {wall.problem}")
                if not all(ended):
                    leave_threads_behind()
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def build(service: LabelService) -> ASGIApp:
    """Return the application with its layer."""
    app = FastAPI(
        title="mien label",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # behind a proxy that ends TLS it would lead to plain http
    )
    app.state.service = service
    add_handlers(app)
    app.include_router(router)
    html = page_of(PAGE)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(html)

    app.mount("/label", StaticFiles(directory=PAGE), name="label")
    app.mount("/static", StaticFiles(directory=SERVE_PAGE), name="static")  # what both pages are made of
    return Middleware(app, service)


def _serve(service: LabelService, taken: socket.socket, ready: Callable[[], None]) -> None:
    service.max_connections = server.max_connections(service.config)
    settings = server.uvicorn_settings(build(service), service.config, service.max_connections)
    _Server(settings, service, ready).run([taken])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: LabelService, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._learning = ready, service.learning
        service.connections = self.server_state.connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._learning:
                self._learning.start()
            self._ready()


# Addresses


@router.get("/faces")
async def faces(request: Request) -> Response:
    """All faces, column by column, and all answers."""
    service = _service(request)
    return await _json(
        lambda: {
            **service.wall.columns(),
            **_aside(service),
            "default_who": service.who,
            "version": __version__,
        }
    )


@router.get("/changes")
async def changes(request: Request, since: int = 0, who: str = "") -> Response:
    """What is true since row `since` of the answers, and how far the work is."""
    service = _service(request)
    return await _json(lambda: {**service.wall.changes(since, who), **_aside(service)})


@router.post("/answers")
async def answers(request: Request) -> Response:
    """Store an answer: {who, faces, action, class, target}, or {who, labels: {id: class}}; on disk when answered.

    As everything that stores something, it may bring an idempotency_key, unlike any other: sent again under the same,
    it is stored once.
    """
    service, body = _service(request), await _body(request)
    if "labels" in body:
        return await _label_each(service, body)
    who, action = _text(body, "who"), _text(body, "action")
    class_, target = _text(body, "class", ""), _text(body, "target", "")
    ids = body.get("faces")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise ApiError("faces: a list of ids is needed", 422)
    since, known, key = _since(body), _known(body), _key(body)

    def store() -> dict[str, Any]:
        service.wall.answer(ids, who, action, class_ or None, target, key=key, known=known)
        return {**service.wall.changes(since, who), **_aside(service)}

    return await _json(store)


async def _label_each(service: LabelService, body: dict[str, Any]) -> Response:
    who, labels = _text(body, "who"), body["labels"]
    since, known, key = _since(body), _known(body), _key(body)
    if not isinstance(labels, dict) or not all(isinstance(label, str) for label in labels.values()):
        raise ApiError("labels: an object from ids to classes is needed", 422)

    def store() -> dict[str, Any]:
        service.wall.label_each(labels, who, key=key, known=known)
        return {**service.wall.changes(since, who), **_aside(service)}

    return await _json(store)


@router.post("/undo")
async def undo(request: Request) -> Response:
    """Take back what a person did last: {who}."""
    service, body = _service(request), await _body(request)
    who, since, key = _text(body, "who"), _since(body), _key(body)
    return await _json(
        lambda: {**service.wall.undo(who, key=key), **service.wall.changes(since, who), **_aside(service)}
    )


@router.post("/classes")
async def classes(request: Request) -> Response:
    """Add, rename or merge classes: {who, action, name, to}."""
    service, body = _service(request), await _body(request)
    who, action, name, to = (_text(body, key, "") for key in ("who", "action", "name", "to"))
    since, key = _since(body), _key(body)

    def edit() -> dict[str, Any]:
        service.wall.edit_classes(who, action, name, to, key=key)
        return {**service.wall.changes(since, who), **_aside(service)}

    return await _json(edit)


@router.get("/guesses")
async def guesses(request: Request, session: str) -> Response:
    """What was learnt from the answers, by place: `mien.label.learning.Guesses`."""
    _same_session(request, session)
    learning = _service(request).learning
    if learning is None:
        raise ApiError("this server does not learn; start it without --no-learn", 404)
    return await _json(lambda: vars(learning.guesses))


@router.get("/copies")
async def copies(request: Request, session: str) -> Response:
    """Faces that show the same picture, looked for once somebody asks: `mien.label.copies.CopySearch.told`."""
    _same_session(request, session)
    search = _service(request).copies
    search.start()
    return await _json(search.told)


@router.get("/training")
async def training(request: Request) -> Response:
    """How far the training is: `mien.label.training.Training.told`."""
    return await _json(_service(request).training.told)


@router.post("/training")
async def train(request: Request) -> Response:
    """Start a training, {epochs, folds}, or cancel the one that runs, {cancel: true}."""
    service, body = _service(request), await _body(request)
    epochs, folds, cancel = body.get("epochs"), body.get("folds", 0), body.get("cancel", False)
    if not isinstance(cancel, bool):
        raise ApiError("cancel: true or false is needed", 422)
    for name, value in (("epochs", epochs), ("folds", folds)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ApiError(f"{name}: a whole number is needed", 422)

    def act() -> dict[str, Any]:
        if cancel:
            service.training.cancel()
        else:
            service.training.start(epochs, folds or 0)
        return service.training.told()

    return await _json(act)


@router.get("/training/batch")
async def batch(request: Request) -> Response:
    """Some pictures as the network sees them in training, PNG."""
    picture = _service(request).training.batch
    if picture is None:
        raise ApiError("there is no such picture yet", 404)
    return FileResponse(picture, media_type="image/png")


@router.get("/training/report")
async def report(request: Request) -> Response:
    """The report of the training that is done: a page that stands alone, without any script."""
    page = _service(request).training.report
    if page is None:
        raise ApiError("there is no report yet", 404)
    return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


@router.get("/small")
async def small(request: Request, session: str, faces: str, side: int) -> Response:
    """Small crops of faces by place, as `Pictures.small` puts them together."""
    shown = _same_session(request, session)
    if side not in SIZES_PX:
        raise ApiError(f"side: there are {', '.join(map(str, SIZES_PX))}, got {side}", 422)
    places = faces.split(",")
    if len(places) > MOST or not all(one.isdecimal() and len(one) < 9 for one in places):
        raise ApiError(f"faces: at most {MOST} places, separated by commas", 422)
    rows = [_face(shown, int(one)) for one in places]
    service = _service(request)
    make = partial(service.pictures.small, service.wall.faceset, rows, side)
    return Response(await to_thread.run_sync(make), media_type="application/octet-stream", headers=_KEPT)


@router.get("/crop/{place}")
async def crop(request: Request, place: int, session: str) -> Response:
    """A crop as it is, JPEG."""
    service, face = _service(request), _face(_same_session(request, session), place)
    data = await to_thread.run_sync(lambda: service.pictures.crop(service.wall.faceset, face))
    return Response(data, media_type="image/jpeg", headers=_KEPT)


@router.get("/photograph/{place}")
async def photograph(request: Request, place: int, session: str) -> Response:
    """The photograph or frame that a face was found in, JPEG; X-Face-Box: left, top, width, height in shares of it."""
    service, face = _service(request), _face(_same_session(request, session), place)
    data, box = await to_thread.run_sync(lambda: service.pictures.photograph(service.wall.faceset, face))
    headers = {**_KEPT, "X-Face-Box": ",".join(f"{value:.5f}" for value in box)}
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/history/{place}")
async def history(request: Request, place: int, session: str) -> Response:
    """Everything that was said about a face, taken back or not."""
    face = _face(_same_session(request, session), place)
    return await _json(lambda: {"history": _service(request).wall.history(face)})


def _aside(service: LabelService) -> dict[str, Any]:
    """What goes on beside the answers."""
    learner = {"learner": service.learning.told()} if service.learning else {}
    return {**learner, "training": service.training.state}


def _service(request: Request) -> LabelService:
    service: LabelService = request.app.state.service
    return service


def _same_session(request: Request, session: str) -> list[FaceRow]:
    """Return the faces, whose places are those that the page knows."""
    now, faces = _service(request).wall.shown
    if session != now:
        raise ApiError("the faces have changed since the page was loaded; load it anew", 409)
    return faces


def _face(faces: Sequence[FaceRow], place: int) -> FaceRow:
    if not 0 <= place < len(faces):
        raise ApiError(f"there is no face {place}; they are 0 to {len(faces) - 1}", 404)
    return faces[place]


async def _json(make: Callable[[], dict[str, Any]]) -> Response:
    """Answer with what a function returns, which is called in a thread: it may wait for the disk."""

    def made() -> bytes:
        try:
            return json.dumps(make(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        except ConfigError as error:
            raise ApiError(str(error), 422) from error

    return Response(await to_thread.run_sync(made), media_type="application/json")


async def _body(request: Request) -> dict[str, Any]:
    service = _service(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(f"the content type {clipped(kind)!r} is not taken; send application/json", 415)
    limited = LimitedBody(request, service.config.max_megabytes * MEGA, service.config.timeout_s)
    data = await Request(request.scope, limited).body()
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError("the body is not JSON; send an object", 400) from error
    if not isinstance(body, dict):
        raise ApiError("the body must be a JSON object", 422)
    if b"\\u" in data:
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # half of a pair; no file and no database could keep it
            raise ApiError("the body has halves of letters (lone surrogates); leave them out", 422) from error
    return body


def _text(body: dict[str, Any], key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ApiError(f"{key}: a text is needed", 422)
    return value


def _since(body: dict[str, Any]) -> int:
    return _whole(body, "since", 0)


def _known(body: dict[str, Any]) -> int:
    """Return the last row that the page knew when somebody said something; it may be sent much later."""
    return _whole(body, "known", _since(body))


def _whole(body: dict[str, Any], key: str, default: int) -> int:
    value = body.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ApiError(f"{key}: a whole number is needed", 422)
    return value


def _key(body: dict[str, Any]) -> str:
    key = _text(body, "idempotency_key", "")
    if len(key) > _LONGEST_KEY:
        raise ApiError(f"idempotency_key: at most {_LONGEST_KEY} letters are taken, got {len(key)}", 422)
    return key
