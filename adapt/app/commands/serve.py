"""``python -m adapt serve``: a model of ``adapt fit`` over HTTP, and a page to try it on."""

from functools import partial
from pathlib import Path

from adapt.adapter.storage import LAYOUT
from adapt.app.commands.arguments import Plain
from adapt.app.commands.predict import check_model
from adapt.app.commands.watch import add_options, check_options, watching
from adapt.app.progress import line
from adapt.app.serving.operation import Operation, loaded
from adapt.app.serving.service import Service
from adapt.artifact import generation
from adapt.errors import AdaptError

__all__ = ["main"]

#: Requests at once; more are told to come back.
AT_ONCE = 64


def main(arguments: list[str]) -> None:
    """Serve until interrupted.

    Raises:
        AdaptError: no such model, or an address that cannot be listened on.
    """
    parser = Plain("serve", "Predictions over HTTP: POST /predict with JSON, a picture or CSV; a page at /.")
    parser.add_argument("model", help="a folder that `adapt fit` wrote, or models:/NAME@ALIAS")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0: any that is free")
    parser.add_argument(
        "--name", metavar="NAME", action="append", default=[], help="a name that it is reached by, besides"
    )
    parser.add_argument("--read-only", action="store_true", help="take no corrections")
    parser.add_argument("--watch", action="store_true", help="notice when examples are of another kind")
    add_options(parser)
    given = parser.parse_args(arguments)
    check_options(given)
    if not 0 <= given.port < 2**16:
        raise AdaptError(f"--port {given.port}: give a number from 0 to 65535")
    if not given.host.strip():  # to whoever listens, nothing means every address
        raise AdaptError("--host is empty: give an address; 0.0.0.0 means all of this machine")
    check_model(given.model)
    folder = Path(given.model)
    mark = generation(folder, LAYOUT)
    if given.watch:
        operation = Operation(given.model, partial(watching, given=given), given.on_alarm)
        answer = operation.answer
    else:
        operation, answer = None, loaded(given.model)
    service = Service(answer, folder if folder.is_dir() and not given.read_only else None, mark, operation)
    _listen(service, given.host, given.port, given.name)


def _listen(service: Service, host: str, port: int, names: list[str]) -> None:
    try:
        import uvicorn
    except ImportError as error:
        raise AdaptError('serving needs uvicorn: pip install "adaptive-behavior[serve]"') from error
    from adapt.app.serving.door import door_for
    from adapt.app.serving.http import application
    from adapt.app.serving.patience import Patient

    settings = uvicorn.Config(
        application(service, door_for(host, names)),
        host,
        port,
        http=Patient,
        log_level="warning",
        limit_concurrency=AT_ONCE,
        timeout_keep_alive=5,
        server_header=False,
    )
    try:
        socket = settings.bind_socket()
        socket.listen()  # now: whoever reads the next line may ask at once
    except (OSError, SystemExit) as error:
        raise AdaptError(
            f"--host {host} --port {port}: cannot listen there ({error}): use another port"
        ) from None
    name = f"[{host}]" if ":" in host else host
    line(f"serving on http://{name}:{socket.getsockname()[1]} (Ctrl-C ends it)")
    uvicorn.Server(settings).run([socket])
