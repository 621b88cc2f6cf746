"""Talk to a running Triton server over http or grpc: one interface, our errors, patience with connections.

A thin layer over ``tritonclient``. What it adds: both protocols give the same messages, a connection that fails is
tried again with growing pauses (inference changes nothing on the server, so asking twice is safe), an answer that is
cut off or of the wrong size is an error and never a result, and every failure is a :class:`TritonError`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.address import parse_address
from ort_quant_plugin.triton.answers import ModelState, Statistics, read_statistics
from ort_quant_plugin.triton.wire import client_library, open_client, pauses, read_arrays, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from ort_quant_plugin.triton.address import Address, Protocol
    from ort_quant_plugin.triton.wire import Trouble

    Array = NDArray[np.generic]

__all__ = ["ModelState", "Statistics", "TritonClient", "connect"]

T = TypeVar("T")

_READY_PAUSE = 0.05


def connect(
    url: str, *, protocol: Protocol | None = None, timeout: float = 60.0, patience: float = 10.0
) -> TritonClient:
    """Make a client; nothing is sent before the first call. Close it, or use it in a ``with`` statement.

    Args:
        url: ``host:port``, ``http://host:port[/path]``, ``https://…``, ``grpc://host:port`` or ``grpcs://…``; the port
            defaults to Triton's own, 8000 for http and 8001 for grpc.
        protocol: For an address without a scheme; default ``http``.
        timeout: Seconds to wait for one answer.
        patience: Seconds to go on trying while the server cannot be reached or says that it is not available.

    Raises:
        TritonError: The address is malformed, or ``tritonclient`` is not installed.
    """
    return TritonClient(parse_address(url, protocol), timeout=timeout, patience=patience)


class TritonClient:
    """Connection to one server; see :func:`connect`. To be used by one thread at a time.

    Attributes:
        address: Where the server is.
        timeout: Seconds to wait for one answer.
        patience: Seconds to go on trying while the server cannot be reached.
    """

    def __init__(self, address: Address, *, timeout: float = 60.0, patience: float = 10.0) -> None:
        self.address = address
        self.timeout = timeout
        self.patience = patience
        self._library = client_library(address.protocol)
        self._raw: Any = open_client(self._library, address, timeout)

    def __enter__(self) -> TritonClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; an open one keeps a server from stopping at once."""
        self._raw.close()

    # Server and repository

    def is_ready(self, model: str = "", version: str = "") -> bool:
        """Whether the server (or one model of it) says that it takes requests; ``False`` also if it cannot be reached.

        Servers before 26.04 say so of a model of the python backend whose process has died, too: only an inference
        tells.
        """
        call = self._raw.is_model_ready if model else self._raw.is_server_ready
        arguments = (model, version) if model else ()
        try:
            return bool(self._ask("readiness", lambda: call(*arguments, **self._limit()), retry=False))
        except TritonError:
            return False

    def wait_ready(self, model: str = "", version: str = "", *, seconds: float = 60.0) -> None:
        """Wait until the server, or one model of it, takes requests.

        Raises:
            TritonError: It did not in time; the message tells the server's reason where it has one.
        """
        deadline = time.monotonic() + seconds
        while not self.is_ready(model, version):
            if time.monotonic() > deadline:
                what = f"Model {model!r} of {self.address}" if model else f"The server {self.address}"
                reason = self._reason(model, version)
                raise TritonError(
                    f"{what} is not ready after {seconds:g} s{': ' if reason else ''}{reason}.",
                    hint="Look at the server's log, and check address and model name.",
                    url=str(self.address),
                    model=model,
                )
            time.sleep(_READY_PAUSE)

    def _reason(self, model: str, version: str) -> str:
        try:
            states = self.index(retry=False)
        except TritonError as error:
            return error.message.rstrip(".")
        found = [s for s in states if s.name == model and version in {"", s.version}]
        if model and not found:
            return "the repository has no such model"
        return "; ".join(s.reason for s in found if s.reason and s.state != "READY").rstrip(".")

    def index(self, *, retry: bool = True) -> list[ModelState]:
        """All models of the server's repository, whether loaded or not.

        Raises:
            TritonError: The server cannot be reached or refuses.
        """
        answer = self._message("RepositoryIndexResponse", "repository index", "get_model_repository_index", retry=retry)
        return [ModelState(m.name, m.version, m.state, m.reason) for m in answer.models]

    def load(self, model: str, *, config: str | None = None) -> None:
        """Load or reload a model; the server must run with explicit model control.

        Args:
            model: Its name.
            config: JSON configuration to use instead of the one in the repository.

        Raises:
            TritonError: The model does not load (the server's reason is quoted), or model control is off.
        """
        # Not again: a server without model control answers as one that is busy.
        limit = self._limit()
        self._ask(f"loading {model!r}", lambda: self._raw.load_model(model, config=config, **limit), retry=False)

    def unload(self, model: str) -> None:
        """Take a model out of service; the server must run with explicit model control.

        Raises:
            TritonError: Model control is off.
        """
        self._ask(f"unloading {model!r}", lambda: self._raw.unload_model(model, **self._limit()), retry=False)

    def share(self, name: str, key: str, size: int) -> None:
        """Let the server map a region of shared memory; it must run on this machine.

        Args:
            name: What requests will call the region.
            key: Its POSIX name, with the leading slash.
            size: Bytes.

        Raises:
            TritonError: The server cannot map it.
        """
        self._ask("sharing memory", lambda: self._raw.register_system_shared_memory(name, key, size, **self._limit()))

    def unshare(self, name: str) -> None:
        """Let the server forget a region of shared memory.

        Raises:
            TritonError: The server cannot be reached.
        """
        self._ask("unsharing memory", lambda: self._raw.unregister_system_shared_memory(name, **self._limit()))

    # One model

    def metadata(self, model: str, version: str = "") -> Any:
        """Names, types and shapes of inputs and outputs: a ``ModelMetadataResponse`` of ``tritonclient``.

        Raises:
            TritonError: There is no such model or version, or it is not loaded.
        """
        return self._message("ModelMetadataResponse", f"metadata of {model!r}", "get_model_metadata", model, version)

    def config(self, model: str, version: str = "") -> Any:
        """The configuration the server runs, defaults filled in: a ``ModelConfig`` of ``tritonclient``.

        Raises:
            TritonError: There is no such model or version, or it is not loaded.
        """
        return self._message(
            "ModelConfigResponse", f"configuration of {model!r}", "get_model_config", model, version
        ).config

    def statistics(self, model: str, version: str = "") -> dict[str, Statistics]:
        """What the server counted, by version.

        Raises:
            TritonError: There is no such model or version.
        """
        answer = self._message(
            "ModelStatisticsResponse", f"statistics of {model!r}", "get_inference_statistics", model, version
        )
        return {entry.version: read_statistics(entry) for entry in answer.model_stats}

    def infer(
        self,
        model: str,
        feeds: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        version: str = "",
        retry: bool = True,
    ) -> dict[str, Array]:
        """Run one request.

        Args:
            model: The model.
            feeds: Arrays by input name, with the batch axis where the model has one; text as arrays of ``bytes``.
            outputs: Outputs to fetch; default: all.
            version: Version; default: the one the server chooses.
            retry: Whether to ask again when the connection fails. ``False`` for a request that changes something.

        Returns:
            Arrays by output name.

        Raises:
            TritonError: The server cannot be reached, refuses, fails, or its answer is incomplete.
        """
        inputs = [self.input(name, array) for name, array in feeds.items()]
        wanted = None if outputs is None else [self.output(name) for name in outputs]
        return self.send(
            model, inputs, wanted, version=version, retry=retry, read=lambda result: read_arrays(result, outputs)
        )

    # A request in its parts, for who sends the same one many times

    def input(self, name: str, array: Array) -> Any:
        """An ``InferInput`` of ``tritonclient`` with data.

        Raises:
            TritonError: Triton does not know the array's type, or a value cannot be sent.
        """
        import numpy as np
        from tritonclient.utils import InferenceServerException

        array = np.asarray(array)
        tensor = self.empty_input(name, array)
        try:
            tensor.set_data_from_numpy(array)
        except InferenceServerException as error:
            raise TritonError(
                f"Input {name!r} cannot be sent: {error.message()}", hint="Check its values.", input=name
            ) from error
        return tensor

    def empty_input(self, name: str, array: Array) -> Any:
        """An ``InferInput`` of shape and type of an array, without its data.

        Raises:
            TritonError: Triton does not know the array's type.
        """
        from tritonclient.utils import np_to_triton_dtype

        datatype = np_to_triton_dtype(array.dtype)
        if datatype is None:
            raise TritonError(
                f"Input {name!r} has dtype {array.dtype}, which Triton does not know.",
                hint="Give numbers, booleans, or an object array of bytes.",
                input=name,
                dtype=str(array.dtype),
            )
        return self._library.InferInput(name, list(array.shape), datatype)

    def output(self, name: str) -> Any:
        """An ``InferRequestedOutput`` of ``tritonclient``."""
        return self._library.InferRequestedOutput(name)

    def send(
        self,
        model: str,
        inputs: Sequence[Any],
        outputs: Sequence[Any] | None,
        *,
        read: Callable[[Any], T],
        version: str = "",
        retry: bool = True,
    ) -> T:
        """Send a request made of :meth:`input` and :meth:`output`, and read the ``InferResult``.

        Raises:
            TritonError: As :meth:`infer`.
        """
        limit = self._limit()
        return self._ask(
            f"inference with {model!r}",
            lambda: read(self._raw.infer(model, inputs, model_version=version, outputs=outputs, **limit)),
            retry=retry,
        )

    # One exchange

    def _limit(self) -> dict[str, float]:
        """The time limit of a call; http connections have theirs from the start."""
        return {"client_timeout": self.timeout} if self.address.protocol == "grpc" else {}

    def _message(self, kind: str, what: str, method: str, *arguments: str, retry: bool = True) -> Any:
        """Ask for something that grpc answers with a message and http with the same content in JSON."""
        call = getattr(self._raw, method)
        answer = self._ask(what, lambda: call(*arguments, **self._limit()), retry=retry)
        if self.address.protocol == "grpc":
            return answer
        from google.protobuf import json_format
        from tritonclient.grpc import service_pb2

        wrapped = {"RepositoryIndexResponse": "models", "ModelConfigResponse": "config"}
        document = {wrapped[kind]: answer} if kind in wrapped else answer
        return json_format.ParseDict(document, getattr(service_pb2, kind)(), ignore_unknown_fields=True)

    def _ask(self, what: str, call: Callable[[], T], *, retry: bool = True) -> T:
        """Make one call, again after a pause for as long as the connection fails and patience lasts."""
        deadline = time.monotonic() + self.patience
        for pause in pauses():
            try:
                return call()
            except Exception as error:
                trouble = trouble_of(error, self.timeout)
                if trouble is None:
                    raise
                left = deadline - time.monotonic()
                if not (retry and trouble.again and left > 0):
                    raise self._error(what, trouble) from error
            time.sleep(min(pause, left))
        raise AssertionError  # the pauses never end

    def _error(self, what: str, trouble: Trouble) -> TritonError:
        hint = (
            "Check that the server runs, and its address; http and grpc have ports of their own."
            if trouble.again
            else "Look at the server's log; 'ort-quant triton validate' checks a repository and its server."
        )
        return TritonError(
            f"{what[0].upper()}{what[1:]} failed at {self.address}: {trouble.message}",
            hint=hint,
            url=str(self.address),
            reason=trouble.message,
            unreachable=trouble.again,
        )
