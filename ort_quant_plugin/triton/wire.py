"""The two client libraries of Triton, and what their many exceptions mean."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ort_quant_plugin.errors import TritonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ort_quant_plugin.triton.address import Address, Protocol

    Array = NDArray[np.generic]

__all__ = ["Trouble", "client_library", "open_client", "pauses", "read_arrays", "trouble_of"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_MAX_MESSAGE = 2**31 - 1
_TRY_AGAIN = {"429", "503", "StatusCode.UNAVAILABLE"}
"""Statuses of a server that stops, loads or sheds load, and of a connection that grpc could not make."""


@dataclass(frozen=True)
class Trouble:
    """What an exception of a client library means.

    Attributes:
        message: Its words, on one line.
        again: Whether asking again can help: the server cannot be reached, or is busy or stopping.
    """

    message: str
    again: bool


class IncompleteError(Exception):
    """An answer without an output that was asked for."""


def client_library(protocol: Protocol) -> Any:
    """Import ``tritonclient.http`` or ``tritonclient.grpc``.

    Raises:
        TritonError: It is not installed.
    """
    try:
        if protocol == "http":
            import tritonclient.http as library
        else:
            import tritonclient.grpc as library
    except ImportError as error:
        raise TritonError(
            f"The Triton client library cannot be imported: {error}.",
            hint="pip install 'ort-quant-plugin[triton]'.",
            protocol=protocol,
        ) from error
    return library


def open_client(library: Any, address: Address, timeout: float) -> Any:
    """A client of the library; it connects with its first call."""
    if address.protocol == "grpc":
        # Whoever waits for a server that restarts should not have to wait for grpc's own growing pauses as well.
        arguments = [
            ("grpc.max_send_message_length", _MAX_MESSAGE),
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        return library.InferenceServerClient(address.location, ssl=address.tls, channel_args=arguments)
    options: dict[str, Any] = {"connection_timeout": timeout, "network_timeout": timeout}
    if address.tls:
        from gevent.ssl import create_default_context

        options |= {"ssl": True, "ssl_context_factory": create_default_context}
    return library.InferenceServerClient(address.location, **options)


def pauses() -> Iterator[float]:
    """Growing pauses in seconds, each a little different, so that many clients do not come back at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        pause = min(2 * pause, _LONGEST_PAUSE)


def trouble_of(error: Exception, timeout: float) -> Trouble | None:
    """What a failed exchange means; ``None`` for an exception that has nothing to do with it."""
    from tritonclient.utils import InferenceServerException

    if isinstance(error, InferenceServerException):
        status, text = str(error.status() or ""), " ".join(str(error.message() or "no reason given").split())
        if "DEADLINE_EXCEEDED" in status:
            return Trouble(f"no answer within {timeout:g} s", again=False)
        return Trouble(text, again=status in _TRY_AGAIN)
    if isinstance(error, TimeoutError):
        return Trouble(f"no answer within {timeout:g} s", again=False)
    if isinstance(error, OSError) or _is_http_break(error):
        return Trouble(f"the connection failed ({str(error) or type(error).__name__})", again=True)
    if isinstance(error, (ValueError, KeyError, IncompleteError)):
        return Trouble(f"the answer is damaged or incomplete ({error})", again=False)
    return None


def _is_http_break(error: Exception) -> bool:
    """Whether an http answer ended in its middle, or was none; the class is private to geventhttpclient's parser."""
    return any(kind.__name__ == "HTTPParseError" for kind in type(error).__mro__)


def read_arrays(result: Any, outputs: Sequence[str] | None) -> dict[str, Array]:
    """Arrays of an answer by output name.

    Raises:
        IncompleteError: An output that was asked for is missing.
        ValueError: The data is not of the shape it says.
    """
    if outputs is None:
        response = result.get_response()
        listed = response.get("outputs", []) if isinstance(response, dict) else response.outputs
        outputs = [entry["name"] if isinstance(entry, dict) else entry.name for entry in listed]
    arrays = {}
    for name in outputs:
        array = result.as_numpy(name)
        if array is None:
            raise IncompleteError(f"it has no output {name!r}")
        arrays[name] = cast("Array", array)
    return arrays
