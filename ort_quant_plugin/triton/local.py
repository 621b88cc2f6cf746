"""The same model in ONNX Runtime here, set up as its configuration tells the server: what it must answer."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.ops.library import (
    DEPLOY_LIBRARY_NAME,
    LIBRARY_NAME,
    first_line,
    onnxruntime_module,
    register_op_library,
    session_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = ["LocalModel"]

_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}
"""Triton's ``optimization.graph.level``; any other value: all optimizations."""


class LocalModel:
    """A model that runs here as a server with this configuration runs it.

    Args:
        path: The model file.
        config: ``ModelConfig`` of ``tritonclient``: graph level, threads and libraries count. Our own libraries are
            those of this package, whatever their path on the server is; others must be found under their path here.
        libraries: Files to register instead of those the configuration names.

    Raises:
        ModelError: ONNX Runtime refuses the model.
        OpLibraryError: A library is missing or refused.
        RuntimeMissingError: ONNX Runtime is not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], config: Any, libraries: Sequence[str | os.PathLike[str]] | None = None
    ) -> None:
        runtime = onnxruntime_module()
        options = _named_options(config) if libraries is None else runtime.SessionOptions()
        for library in libraries or ():
            register_op_library(options, os.fspath(library))
        level = _LEVELS.get(int(config.optimization.graph.level), "ORT_ENABLE_ALL")
        options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
        options.log_severity_level = 4  # a failure is raised as well
        threads = _parameter(config, "intra_op_thread_count")
        if threads.isdigit():
            options.intra_op_num_threads = int(threads)
        try:
            self._session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exception types are private to its binding
            raise ModelError(
                f"ONNX Runtime cannot load {os.fspath(path)!r}: {first_line(error)}",
                hint="Check the file with 'ort-quant inspect'.",
                path=str(Path(path)),
            ) from error

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Outputs by name.

        Raises:
            ModelError: The model refuses the inputs.
        """
        try:
            values = self._session.run(list(outputs), dict(feeds))
        except Exception as error:  # as above
            raise ModelError(
                f"The model does not run here: {first_line(error)}", hint="Check the inputs' shapes and types."
            ) from error
        return dict(zip(outputs, values, strict=True))


def _named_options(config: Any) -> Any:
    libraries = _libraries(config)
    names = {PurePosixPath(name).name for name in libraries}
    options = session_options(run_deploy_models=DEPLOY_LIBRARY_NAME in names)
    for library in libraries:
        if PurePosixPath(library).name not in {LIBRARY_NAME, DEPLOY_LIBRARY_NAME}:
            register_op_library(options, library)
    return options


def _libraries(config: Any) -> list[str]:
    """Libraries of the ONNX Runtime backend, or of our model for the python backend."""
    named = [str(name) for name in config.model_operations.op_library_filename]
    return named + [name for name in _parameter(config, "op_library_filename").split(":") if name]


def _parameter(config: Any, name: str) -> str:
    # Reading a missing entry of a protobuf map would create it.
    return str(config.parameters[name].string_value) if name in config.parameters else ""
