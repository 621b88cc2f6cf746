"""Run a development server on a model repository: the real ``tritonserver``, on this machine's loopback only.

It is the server of NGC 24.10 out of a PyPI wheel, with the python backend. The ONNX Runtime backend is no package, so a
stand-in of ours (``standin/model.py``) answers to its name. Use a Triton container in production.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.files import unwritable
from ort_quant_plugin.triton.environment import SERVER_RELEASE, SERVER_VERSION, Environment, ensure_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["SERVER_RELEASE", "SERVER_VERSION", "DevServer", "Environment", "ensure_environment"]

_HOST = "127.0.0.1"
_PORTS = ("http", "grpc", "metrics")
_EXIT_SECONDS = 5  # what the server grants open connections before it closes them
_KILL_SECONDS = 30
_POLL_SECONDS = 0.02
_PORT_TRIES = 3
_PORT_SECONDS = 1
_GUARD = f"""
read _
kill -TERM -$1
sleep {_EXIT_SECONDS + 2}
kill -KILL -$1
rm -rf "$2" "$3"*
"""
"""Waits for the end of its input, which comes when this process ends in whatever way, and then ends the server.

Its arguments are the server's process group, its folder, and the path its files in shared memory start with.
"""
_REASONS = (
    r"failed to load '[^']+' version \S+ [^\n]+",
    r"Poll failed for model directory [^\n]+",
    r"Error parsing text-format [^\n]+",
)
"""What in the server's output says why a model cannot be loaded."""
_PORT_TAKEN = "already in use"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where the python backend and its stubs exchange tensors
_counter = itertools.count()


class DevServer:
    """A development server; a context manager that starts and stops it.

    ::

        with DevServer("repository") as server:
            print(server.http_url)  # 127.0.0.1:43211

    Close HTTP clients before the server stops: it waits for open connections, then closes them and counts that as an
    error.

    Args:
        repository: The model repository.
        http_port: Port of the HTTP endpoint, likewise ``grpc_port`` and ``metrics_port``; 0: a free one, kept when the
            server is started again.
        explicit: Load no model until a client asks for it.
        tolerate_failures: Come up although models cannot be loaded; the repository index tells why. Else the server
            ends, and :meth:`start` raises with the reasons.
        auto_complete: Fill in what configurations leave out, as Triton does. A server whose configurations are complete
            loads models in half the time without.
        log: File the server's output is appended to; default: a temporary one, gone when the server stops.
        library_path: Folders the loader searches for libraries named without a folder.
        arguments: Further arguments of ``tritonserver``.
        environment: The server's environment; default: what :func:`ensure_environment` gives.
        start_timeout: Seconds to become ready in.

    Attributes:
        repository: The model repository.
        log: The file with the server's output.
        environment: The server's environment; made by :meth:`start` if not given.
        shared_memory_prefix: What the names of its files in ``/dev/shm`` start with: what a killed server leaves behind
            can be told from others'.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        explicit: bool = False,
        tolerate_failures: bool = False,
        auto_complete: bool = True,
        log: str | os.PathLike[str] | None = None,
        library_path: Sequence[str | os.PathLike[str]] = (),
        arguments: Sequence[str] = (),
        environment: Environment | None = None,
        start_timeout: float = 120,
    ) -> None:
        self.repository = Path(repository).absolute()
        if not self.repository.is_dir():
            raise TritonError(
                f"Model repository '{repository}' is not a folder.",
                hint="Write one with 'ort-quant triton new MODEL.onnx --repository DIR'.",
                path=str(repository),
            )
        self.environment = environment
        self._wanted = dict(zip(_PORTS, (http_port, grpc_port, metrics_port), strict=True))
        self._ports: dict[str, int] = {}
        self._library_path = tuple(library_path)
        self._arguments = (
            *(["--model-control-mode=explicit"] if explicit else []),
            *(["--exit-on-error=false", "--strict-readiness=false"] if tolerate_failures else []),
            *([] if auto_complete else ["--disable-auto-complete-config"]),
            *arguments,
        )
        self._start_timeout = start_timeout
        self._given_log = None if log is None else Path(log).absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._cleanup = ExitStack()
        self.shared_memory_prefix = f"ort_quant_{os.getpid()}_{next(_counter)}_"
        self.log = self._given_log or Path()
        self._log_start = 0

    @property
    def http_url(self) -> str:
        """Host and port of the HTTP endpoint."""
        return self._url("http")

    @property
    def grpc_url(self) -> str:
        """Host and port of the gRPC endpoint."""
        return self._url("grpc")

    @property
    def metrics_url(self) -> str:
        """Host and port of the Prometheus endpoint; its path is ``/metrics``."""
        return self._url("metrics")

    @property
    def pid(self) -> int:
        """Process id of the server.

        Raises:
            TritonError: It does not run.
        """
        if self._process is None:
            raise TritonError("The development server is not running.", hint="Call start().")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            TritonError: It ended (the message quotes its reasons), was not ready in time, or cannot be installed.
        """
        if self.running:
            return self
        self.stop()
        environment = self.environment = self.environment or ensure_environment()
        again = bool(self._ports)  # clients know the ports of an earlier run
        for attempt in range(1, _PORT_TRIES + 1):
            self._choose_ports()
            reason = self._start_once(environment)
            if reason is None:
                return self
            # Between choosing a free port and binding it somebody else may have taken it.
            if attempt == _PORT_TRIES or _PORT_TAKEN not in reason:
                break
            if again:
                time.sleep(_PORT_SECONDS)
            else:
                self._ports = {}
        raise TritonError(
            f"The development server did not start: {reason}",
            hint="Check the repository with 'ort-quant triton validate'.",
            path=str(self.repository),
        )

    def stop(self) -> int | None:
        """Ask the server to end, wait for it, and clean up after it; harmless when it does not run.

        Returns:
            Its exit code (negative: the signal that ended it); ``None`` if it never ran.
        """
        if self._process is None:
            return None
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_SECONDS)
        return self.kill()

    def kill(self) -> int | None:
        """End the server and its stubs at once, as a crash would, and clean up; returns as :meth:`stop` does."""
        process, self._process = self._process, None
        code = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        if process is not None:
            with suppress(ProcessLookupError):  # the group has the server's id; stubs may have outlived it
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        for region in _SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*"):
            region.unlink(missing_ok=True)
        self._cleanup.close()
        return code

    def wait(self) -> int:
        """Wait until the server ends by itself; returns its exit code."""
        if self._process is None:
            raise TritonError("The development server is not running.", hint="Call start().")
        return self._process.wait()

    def last_words(self) -> str:
        """What the server's output since its start says about models that cannot be loaded; else its last words."""
        with self.log.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(self._log_start)
            text = stream.read()
        found = re.findall("|".join(_REASONS), text)
        found = found or [line for line in text.splitlines() if re.match(r"E\d{4} |error:", line)]
        found = found or text.splitlines()[-1:]
        return "; ".join(dict.fromkeys(line.strip().strip('"') for line in found))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _url(self, endpoint: str) -> str:
        if endpoint not in self._ports:
            raise TritonError("The development server has no ports yet.", hint="Call start().")
        return f"{_HOST}:{self._ports[endpoint]}"

    def _choose_ports(self) -> None:
        if self._ports:
            return
        ports = {}
        with ExitStack() as stack:  # all held at once, so that they differ
            for endpoint, wanted in self._wanted.items():
                listener = stack.enter_context(socket.socket())
                # As the server does: connections that have just been closed do not occupy a port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((_HOST, wanted))
                except OSError as error:
                    raise TritonError(
                        f"Port {wanted} of {_HOST} for {endpoint} cannot be had: {error.strerror or error}.",
                        hint="Choose another port; 0 is a free one.",
                        port=wanted,
                    ) from error
                ports[endpoint] = listener.getsockname()[1]
        self._ports = ports

    def _start_once(self, environment: Environment) -> str | None:
        """Start the server; why it did not become ready, after cleaning up."""
        try:
            self._launch(environment)
            reason = self._wait_ready()
        except BaseException:
            self.kill()
            raise
        if reason is not None:
            self.kill()
        return reason

    def _launch(self, environment: Environment) -> None:
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ort-quant-triton-")))
        self.log = self._given_log or folder / "server.log"
        command = [
            str(environment.server),
            f"--model-repository={self.repository}",
            f"--backend-directory={_make_backends(folder / 'backends', environment)}",
            f"--cache-directory={environment.caches}",
            f"--backend-config=python,shm-region-prefix-name={self.shared_memory_prefix}",
            f"--exit-timeout-secs={_EXIT_SECONDS}",
            "--allow-gpu-metrics=false",
            *(f"--{endpoint}-address={_HOST}" for endpoint in _PORTS),
            *(f"--{endpoint}-port={port}" for endpoint, port in self._ports.items()),
            *self._arguments,
        ]
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            stream = self._cleanup.enter_context(self.log.open("ab"))
            self._log_start = stream.tell()
        except OSError as error:
            raise unwritable(self.log, error) from error
        # Its own process group: Ctrl-C reaches this process only, which then ends the server in order.
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the server of the environment
                command,
                env=self._variables(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise TritonError(
                f"The development server cannot be run: {error.strerror or error}: '{environment.server}'.",
                hint=f"Delete '{environment.folder}'; it is made again.",
                path=str(environment.server),
            ) from error
        arguments = [str(self._process.pid), str(folder), str(_SHARED_MEMORY / self.shared_memory_prefix)]
        self._guard = subprocess.Popen(  # noqa: S603 - the text above, and names of our own
            ["/bin/sh", "-c", _GUARD, "sh", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _variables(self, environment: Environment) -> Mapping[str, str]:
        """The server's environment variables: its Python is the one of its virtual environment, found on PATH."""
        variables = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
        libraries = [*self._library_path, *environment.library_path]
        return variables | {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PATH": f"{environment.folder / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONDONTWRITEBYTECODE": "1",  # the repository is the user's
        }

    def _wait_ready(self) -> str | None:
        """Wait until the server is ready; else why it is not."""
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return self.last_words() or f"it ended with code {self._process.returncode}"
            if self._is_ready():
                return None
            time.sleep(_POLL_SECONDS)
        return f"it was not ready after {self._start_timeout:g} s. {self.last_words()}".strip()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(_HOST, self._ports["http"], timeout=self._start_timeout)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _make_backends(folder: Path, environment: Environment) -> Path:
    """The server's backends: its own python backend with the stub for its Python, and our stand-in."""
    python, standin = folder / "python", folder / "onnxruntime"
    shutil.copytree(environment.python_backend, python)
    shutil.copy2(environment.stub, python)
    standin.mkdir()
    shutil.copy2(Path(__file__).parent / "standin" / "model.py", standin)
    return folder
