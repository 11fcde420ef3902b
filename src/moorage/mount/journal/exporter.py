"""Where do the metrics of a mount go?

    127.0.0.1:9469                   answered over HTTP, at /metrics, to whoever is on this machine
    /var/lib/node/textfile/m.prom    a file, written anew by rename every few seconds, and removed at the end

On loopback addresses only: whoever can ask learns what is mounted where, and there is no password. Another machine's
Prometheus goes through an agent, or takes the file by way of node_exporter's textfile collector.

Nothing is put out for a mount that was taken out of sight, though it may be read for days: whoever mounts anew wants
the same port.

Threads: one of its own; what it asks for must be quick, since nobody else is answered meanwhile. Another one waits for
the end.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from socketserver import TCPServer

from moorage.errors import InvalidInputError, MountError
from moorage.mount.host import mountinfo
from moorage.mount.journal.metrics import CONTENT_TYPE, Metrics

_log = logging.getLogger(__name__)

EVERY_S = 5.0
"""How often a file is written."""
RETRY_S = 5.0
"""How often a port that somebody else has is tried again."""
BUSY_S, BUSY_LOOK_S = 1.0, 0.02
"""How long a first server waits for a port, and how often it looks: who unmounts lazily and mounts again at once may be
quicker than the server that gives the port up."""
LOOK_S = 0.2
"""How often it is seen whether all is over."""
SLOWEST_S = 5.0
"""Who has not asked by then is not waited for."""
_LAST_PORT = 65535
_ADDRESS = re.compile(r"\[?(?P<host>[^\[\]]*)\]?:(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is given."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target(text: str) -> Address | Path:
    """Where metrics are to go, of what `--metrics` takes. Raises `InvalidInputError`."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        if "/" in text or text.endswith(".prom"):
            return Path(text)
        raise InvalidInputError(
            f"{text!r} is neither an address with a port nor a file",
            hint="for example 127.0.0.1:9469, or ./moorage.prom",
        )
    host = "127.0.0.1" if match["host"] == "localhost" else match["host"]
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not host or int(match["port"]) > _LAST_PORT:
        lacks = f"there is no port {match['port']}" if host else "it has no address"
        raise InvalidInputError(f"no metrics at {text!r}: {lacks}", hint="for example 127.0.0.1:9469")
    if not is_loopback:
        raise InvalidInputError(
            f"metrics are served on this machine's own addresses only, which {text!r} is not",
            hint="for example 127.0.0.1:9469; another machine's Prometheus goes through an agent on this one",
        )
    return Address(host, int(match["port"]))


class Exporter:
    """Puts out the metrics of one mount until it is closed."""

    def __init__(self, where: Address | Path, metrics: Metrics) -> None:
        """Nothing is put out yet."""
        self._where = where
        self.metrics = metrics
        self._over = threading.Event()
        self._server: TCPServer | None = None
        self._written: os.stat_result | None = None
        """The file that was written last."""
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self, *, is_first: bool = True) -> None:
        """Begin. The first server of a mount raises `MountError` where this cannot work: who asks for metrics wants
        them. A later one must serve all the same, and tries again."""
        try:
            self._prepare(BUSY_S if is_first else 0.0)
        except OSError as error:
            if is_first:
                raise MountError(
                    f"cannot put out metrics at {self._where}: {error.strerror}",
                    hint="another port, or another file: --metrics",
                ) from error
            _log.warning("no metrics yet at %s: %s", self._where, error.strerror)
        self._thread.start()

    def end_with(self, mountpoint: str, device: str) -> None:
        """Close as soon as that file system is no longer mounted there."""

        def wait() -> None:
            mountinfo.wait_until_gone(mountpoint, device)
            self.close()

        threading.Thread(target=wait, name="metrics-end", daemon=True).start()

    def close(self) -> None:
        """Put out no more; a file is removed, so that nobody takes it for news. May be called again."""
        self._over.set()
        if self._thread.ident is None:
            return
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.socket.shutdown(socket.SHUT_RDWR)  # nobody is let in, and the port is free
        if self._thread.is_alive():
            self._thread.join(LOOK_S * 5)  # no longer: somebody may be asking very slowly
        if isinstance(self._where, Path) and self._written is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(self._where), self._written):
                    self._where.unlink()

    @property
    def address(self) -> Address | None:
        """Where it listens, with the port that was free."""
        if self._server is None:
            return None
        host, port = self._server.server_address[:2]
        return Address(str(host), int(port))

    def _prepare(self, patience_s: float = 0.0) -> None:
        """Waits so long for a port that somebody has. Raises `OSError`."""
        if isinstance(self._where, Path):
            self._write(self._where)
            return
        deadline = time.monotonic() + patience_s
        while self._server is None:
            try:
                self._server = _listen(self._where, self.metrics)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                    raise
                self._over.wait(BUSY_LOOK_S)

    def _run(self) -> None:
        if isinstance(self._where, Path):
            while not self._over.wait(EVERY_S):
                self._write_or_say(self._where)
            return
        while self._server is None:
            if self._over.wait(RETRY_S):
                return
            with contextlib.suppress(OSError):
                self._prepare()
        with self._server as server:
            while not self._over.is_set():
                server.handle_request()

    def _write_or_say(self, path: Path) -> None:
        try:
            self._write(path)
        except OSError as error:
            _log.warning("metrics are not written to %s: %s", path, error.strerror)

    def _write(self, path: Path) -> None:
        """By rename: nobody ever reads half of it. Raises `OSError`."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(self.metrics.text(), encoding="utf-8")
            self._written = temporary.stat()
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _listen(where: Address, metrics: Metrics) -> TCPServer:
    """Who answers at `where`. Raises `OSError`."""
    from http.server import BaseHTTPRequestHandler  # 14 ms that no server without metrics needs

    class Answering(BaseHTTPRequestHandler):
        timeout = SLOWEST_S
        server_version = "moorage"
        sys_version = ""

        def do_GET(self) -> None:
            """`/metrics`, and a word for whoever asks for something else."""
            is_there = self.path.partition("?")[0] == "/metrics"
            raw = (metrics.text() if is_there else "moorage: the metrics are at /metrics\n").encode("utf-8")
            self.send_response(200 if is_there else 404)
            self.send_header("Content-Type", CONTENT_TYPE if is_there else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has
            """A question every few seconds is nothing to write down."""

    class Listening(TCPServer):  # an HTTPServer would ask the DNS for its own name
        address_family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        allow_reuse_address = True
        timeout = LOOK_S

        def handle_error(self, request: object, client_address: object) -> None:
            """Who asks and does not wait is no trouble of ours."""

    return Listening((where.host, where.port), Answering)
