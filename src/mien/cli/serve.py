"""`mien serve`: a page and a REST API."""

from __future__ import annotations

import argparse
import os

from mien.cli.inputs import FACE_LIMITS, add_face_limits, add_network_options, adopted_model, loading_options
from mien.errors import need

HELP = "Serve a page for photos, videos and the camera, and the same as a REST API."
EXAMPLES = """examples:
  mien serve --open                              the page, on this machine alone
  mien serve --model runs/faces-small            with a network of your own
  mien serve --host 0.0.0.0 --workers 4          for others too; give them the token that $MIEN_TOKEN holds
"""
_TOKEN, _JOBS = "MIEN_TOKEN", "MIEN_JOBS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from mien.serve.config import ServeConfig
    from mien.settings import add_settings

    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    add_network_options(parser)
    add_face_limits(parser)
    add_settings(parser, ServeConfig)


def run(options: argparse.Namespace, view: str = "") -> int:
    """Serve until told to stop. view: which part of the page to open, as `#camera`."""
    needed_packages()
    from mien.serve.config import ServeConfig
    from mien.serve.metrics import tell, write_json
    from mien.serve.server import run as serve
    from mien.serve.service import ModelOptions
    from mien.settings import from_mapping, given

    asked = given(ServeConfig, options)
    if token := os.environ.get(_TOKEN):
        asked.setdefault("token", token)
    if jobs := os.environ.get(_JOBS):
        asked.setdefault("jobs", jobs)
    config = from_mapping(ServeConfig, asked, "mien serve")
    model = ModelOptions(model=adopted_model(options), **loading_options(options, search=FACE_LIMITS))
    if config.log_json:
        write_json()
    if not config.is_local and config.token is None and config.keys is None:
        tell(
            f"everybody who reaches {config.host} may use this server; to ask for a token: --token or ${_TOKEN}"
        )

    def ready(address: str) -> None:
        tell(f"listening on {address}{view} (Ctrl-C ends it)")
        if options.open:
            open_page(address + view)

    return serve(model, config, ready)


def needed_packages() -> None:
    """Raise MissingExtra, which says what to install, unless all that the server stands on is there."""
    for module in (
        "fastapi",
        "uvicorn",
        "python_multipart",
        "prometheus_client",
        "websockets",
        "fastapi_offline",
        "sqlalchemy",
    ):
        need(module, "serve", "the server")


def open_page(address: str) -> None:
    """Open the page beside the server, which a slow browser must not hold up."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
