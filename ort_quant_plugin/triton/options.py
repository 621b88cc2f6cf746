"""How a model is to be served: what a ``config.pbtxt`` says beyond what the model itself tells."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KSERVE_MOUNT", "DynamicBatching", "RepositoryOptions", "check_model_name"]

KSERVE_MOUNT = "/mnt/models"
"""Where KServe's Triton runtime sees the repository, whatever the storage is."""

_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*\Z")
_TAG = re.compile(r"[A-Za-z_]\w*\Z")
_POLICY = re.compile(r"all|latest(:[1-9]\d*)?|[1-9]\d*(,[1-9]\d*)*")


@dataclass(frozen=True)
class DynamicBatching:
    """How the server joins requests into batches.

    Attributes:
        queue_delay_us: Longest time a request waits for others, in microseconds; 0 joins only what waits already.
        preferred_sizes: Batch sizes that run at once when reached; empty: the largest the queue gives.
        max_queue_size: Requests that may wait; more are refused (HTTP 503, gRPC UNAVAILABLE). 0: no limit.
        timeout_us: Requests that waited longer are refused, in microseconds; 0: no limit.

    Raises:
        ConfigError: A value is out of range.
    """

    queue_delay_us: int = 500
    preferred_sizes: tuple[int, ...] = ()
    max_queue_size: int = 256
    timeout_us: int = 0

    def __post_init__(self) -> None:
        for name in ("queue_delay_us", "max_queue_size", "timeout_us"):
            _at_least(name, getattr(self, name), 0)
        for size in self.preferred_sizes:
            _at_least("preferred_sizes", size, 1)


@dataclass(frozen=True)
class RepositoryOptions:
    """How a model is served.

    Attributes:
        name: Name clients ask for, and the folder in the repository.
        max_batch: Largest batch, counting the samples of all joined requests; 0: the server adds no batch axis;
            ``None``: 8 where the model has a free first axis, else 0.
        instances: Copies of the model that run side by side, each with its own threads.
        threads: Threads an instance computes with; 0: one a core (ONNX Runtime's default).
        dynamic_batching: How requests are joined; ``None``: never. Without effect where batches are at most 1.
        warmup: Run zeros through every instance before it is called ready.
        graph_level: ONNX Runtime's graph optimization: -1 basic, 1 extended, 2 none, 0 all; ``None``: none for
            fake-quantized models, whose promise of equal bits it would break, else all.
        ops_path: How the configuration names our library. ``absolute``: a copy beside ``config.pbtxt``, by its
            absolute path; ``kserve``: the same under ``/mnt/models``; ``bare``: the file name, found through the
            server's ``LD_LIBRARY_PATH``; a path ending in ``.so``: that file on the server; any other path: the folder
            on the server that holds the libraries.
        mount: Where the server sees the repository, if not where it is written; for ``absolute`` only.
        op_libraries: Libraries of further custom operators, as the server finds them.
        version: Number of the version folder, 1 or more.
        version_policy: Versions to serve: ``all``, ``latest``, ``latest:N`` or numbers separated by commas.
        response_cache: Let the server answer repeated requests from its cache.
        backend: ``onnxruntime``, or ``python`` for servers without the ONNX Runtime backend.
        tags: Labels on the model's metrics, besides ``precision``.
        shapes: Sizes for warm-up of inputs with free axes, by input name, the batch axis left out where there is one.

    Raises:
        ConfigError: A value is out of range or malformed.
    """

    name: str
    max_batch: int | None = None
    instances: int = 1
    threads: int = 1
    dynamic_batching: DynamicBatching | None = field(default_factory=DynamicBatching)
    warmup: bool = True
    graph_level: Literal[-1, 0, 1, 2] | None = None
    ops_path: str = "absolute"
    mount: str | None = None
    op_libraries: tuple[str, ...] = ()
    version: int = 1
    version_policy: str = "all"
    response_cache: bool = False
    backend: Literal["onnxruntime", "python"] = "onnxruntime"
    tags: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_model_name(self.name)
        _at_least("max_batch", self.max_batch, 0)
        _at_least("instances", self.instances, 1)
        _at_least("threads", self.threads, 0)
        _at_least("version", self.version, 1)
        _one_of("graph_level", self.graph_level, (-1, 0, 1, 2, None))
        _one_of("backend", self.backend, ("onnxruntime", "python"))
        if not _POLICY.fullmatch(self.version_policy):
            raise ConfigError(
                f"version_policy is {self.version_policy!r}; expected all, latest, latest:N or numbers such as 1,3.",
                hint="Use 'all' to serve every version folder.",
                value=self.version_policy,
            )
        for key in self.tags:
            if not _TAG.match(key):
                raise ConfigError(
                    f"Metric tag {key!r} is not a name; expected letters, digits and underscores.",
                    hint="Rename the tag.",
                    tag=key,
                )
        self._check_paths()

    def _check_paths(self) -> None:
        explicit = self.ops_path not in {"absolute", "bare", "kserve"}
        if explicit and not PurePosixPath(self.ops_path).is_absolute():
            raise ConfigError(
                f"ops_path is {self.ops_path!r}; expected absolute, bare, kserve or an absolute path. "
                "The server would look for a relative path in its own working directory.",
                hint="Give the absolute path of the library, or of its folder, on the server.",
                value=self.ops_path,
            )
        if self.mount is None:
            return
        if self.ops_path != "absolute":
            raise ConfigError(
                f"mount is {self.mount!r}, but ops_path is {self.ops_path!r}; it means something for 'absolute' only.",
                hint="Leave one of them out.",
                value=self.mount,
            )
        if not PurePosixPath(self.mount).is_absolute():
            raise ConfigError(
                f"mount is {self.mount!r}; expected an absolute path.",
                hint="Give the path that the server's --model-repository has.",
                value=self.mount,
            )


def check_model_name(name: str) -> None:
    """Refuse names that cannot be a folder, a URL part and a metrics label.

    Raises:
        ConfigError: The name holds other characters than letters, digits, ``_ . -``, or starts with ``. -``.
    """
    if not _NAME.match(name):
        raise ConfigError(
            f"Model name {name!r} is not usable; expected letters, digits, '_', '.' and '-', the first no sign.",
            hint="Give another name with --name.",
            value=name,
        )


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ConfigError(
            f"{name} is {value!r}; expected a whole number of at least {least}.", hint=f"Correct {name}.", value=value
        )


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        words = ", ".join(str(item) for item in allowed if item is not None)
        raise ConfigError(f"{name} is {value!r}; expected one of {words}.", hint=f"Correct {name}.", value=value)
