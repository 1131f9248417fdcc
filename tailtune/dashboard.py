"""Optuna's dashboard on a study, on this machine alone unless told otherwise."""

from __future__ import annotations

import errno
import socketserver
import threading
import warnings
import wsgiref.simple_server
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from analysis.errors import TailtuneError, UsageError

LOOPBACK = "127.0.0.1"
USUAL_PORT = 8080


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A WSGI server that answers several requests at once and does not outlive its process."""

    daemon_threads = True
    allow_reuse_address = True


class _Silent(wsgiref.simple_server.WSGIRequestHandler):
    """A handler that does not print a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Dashboard:
    """Optuna's dashboard, bound to its port from the start, serving once told to.

    Args:
        storage: An Optuna storage, or its URL.
        host: Address to bind to; the loopback address by default, for the dashboard has no password.
        port: Port to bind to; None takes 8080, or any free one where that is taken.

    Raises:
        UsageError: If `port` is no port.
        TailtuneError: If the port is taken, or the host is not an address of this machine.
    """

    def __init__(self, storage: Any, *, host: str = LOOPBACK, port: int | None = None) -> None:
        from optuna_dashboard import wsgi

        if port is not None and not 0 <= port <= 65535:
            raise UsageError(f"--port must lie in 0 … 65535, got {port}")
        self._server = _bind(host, port)
        self._server.set_app(wsgi(storage))
        self.url = f"http://{host}:{self._server.server_port}/dashboard/"

    def serve(self) -> None:
        """Serve until Ctrl-C, or until `close` is called from another thread."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self._server.server_close()

    def __enter__(self) -> Self:
        """Serve from a thread of its own."""
        threading.Thread(target=self.serve, name="dashboard", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()


def _bind(host: str, port: int | None) -> _Server:
    """Return a server that holds its port."""
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        try:
            return _Server((host, candidate), _Silent)
        except PermissionError:
            raise TailtuneError(
                f"port {candidate} is reserved for the system", "choose one above 1023 with --port"
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise TailtuneError(f"cannot listen on {host}: {error.strerror or error}") from None
    raise TailtuneError(
        f"port {port} is in use", "choose another with --port, or leave --port out for a free one"
    )


Announce = Callable[[str], None]


def serve(storage: Any, announce: Announce, *, host: str = LOOPBACK, port: int | None = None) -> None:
    """Bind, tell the URL to `announce`, and serve until Ctrl-C."""
    dashboard = Dashboard(storage, host=host, port=port)
    announce(dashboard.url)
    with warnings.catch_warnings():  # on every look at the importances of a small study
        warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
        dashboard.serve()
