"""Find the custom-op library and register it in ONNX Runtime sessions.

The library is a plain shared object that ONNX Runtime loads. It needs ONNX Runtime 1.17 or newer, of any
distribution; this package depends on none of them, the user chooses.
"""

from __future__ import annotations

import importlib
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import (
    ArgumentTypeError,
    ConfigError,
    ModelError,
    OpLibraryError,
    RuntimeMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import onnxruntime

__all__ = [
    "DEPLOY_LIBRARY_NAME",
    "DOMAIN",
    "DOMAIN_FP16",
    "DOMAIN_INT8",
    "LIBRARY_NAME",
    "first_line",
    "get_library_path",
    "onnxruntime_module",
    "open_session",
    "register_custom_ops",
    "register_op_library",
    "session_options",
]

DOMAIN = "amct.customop"
"""ONNX domain of the ops (AMCT's name, so that models made by AMCT run unchanged)."""
DOMAIN_FP16 = "amct.customop.extfp16"
"""AMCT's domain of the variants that change between float16 and float32."""
DOMAIN_INT8 = "amct.customop.extint8"
"""AMCT's domain of the variants with int8 output."""
LIBRARY_NAME = "libort_quant_ops.so"
DEPLOY_LIBRARY_NAME = "libort_quant_deploy.so"
"""The library that runs untouched deploy models; it lies beside the other."""

_OLDEST_RUNTIME = (1, 17)


def get_library_path(*, deploy: bool = False) -> str:
    """Return the path of a custom-op library.

    The environment variable ``ORT_QUANT_LIBRARY`` (path of the ops' library) comes first, then the file in this
    package. Give the path to any ONNX Runtime host: ``SessionOptions.register_custom_ops_library``, the C++ API, or
    Triton's ``op_library_filename``.

    Args:
        deploy: The library that runs untouched deploy models instead. It lies in the same folder. A session that
            registers it has its own kernels for the standard operators of a deploy model (Conv, Gemm …).

    Raises:
        OpLibraryError: There is no such file; the message tells what was tried.
    """
    override = os.environ.get("ORT_QUANT_LIBRARY")
    if override and not Path(override).is_file():
        msg = f"ORT_QUANT_LIBRARY names '{override}', which is not a file."
        raise OpLibraryError(msg, hint="Correct or unset the environment variable.", path=override)
    if override and not deploy:
        return override
    folder = Path(override).parent if override else Path(str(files("ort_quant_plugin")))
    path = folder / (DEPLOY_LIBRARY_NAME if deploy else LIBRARY_NAME)
    if path.is_file():
        return str(path)
    if override:
        msg = f"The deploy library was not found beside the one that ORT_QUANT_LIBRARY names: '{path}' does not exist."
        hint = "Build and copy both libraries, or unset the environment variable."
    else:
        msg = f"The custom-op library was not found: ORT_QUANT_LIBRARY is not set and '{path}' does not exist."
        hint = "Install the package with 'pip install .' (it builds the library), or set ORT_QUANT_LIBRARY to a build."
    raise OpLibraryError(msg, hint=hint, path=str(path))


def onnxruntime_module() -> ModuleType:
    """Import ONNX Runtime.

    Raises:
        RuntimeMissingError: No distribution of ONNX Runtime is installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        msg = f"ONNX Runtime cannot be imported: {error}."
        hint = (
            "Install one distribution: pip install 'ort-quant-plugin[cpu]', or onnxruntime-gpu, onnxruntime-openvino …"
        )
        raise RuntimeMissingError(msg, hint=hint) from error


def register_custom_ops(session_options: onnxruntime.SessionOptions, *, run_deploy_models: bool = False) -> None:
    """Make the custom ops known to sessions created with `session_options`.

    Args:
        session_options: The options that the session will be created with.
        run_deploy_models: Also run untouched deploy models (Ascend ops and int8 layers in the default domain). It holds
            for sessions with these options only, and costs their float layers some of ONNX Runtime's optimizations.

    Raises:
        OpLibraryError: A library is missing, was refused, or the runtime is older than 1.17.
    """
    runtime = onnxruntime_module()
    _check_runtime_version(runtime.__version__)
    _register(session_options, get_library_path(), runtime.__version__)
    if run_deploy_models:
        _register(session_options, get_library_path(deploy=True), runtime.__version__)


def _register(session_options: onnxruntime.SessionOptions, path: str, version: str) -> None:
    try:
        session_options.register_custom_ops_library(path)
    except Exception as error:  # the runtime's exception classes differ between versions
        msg = f"ONNX Runtime {version} refused the custom-op library '{path}': {error}"
        hint = "Check ORT_QUANT_ISA and ORT_QUANT_LIBRARY, and that the library was built for this machine."
        raise OpLibraryError(msg, hint=hint, path=path, version=version) from error


def session_options(*, run_deploy_models: bool = False, **attributes: object) -> onnxruntime.SessionOptions:
    """Return fresh session options with the custom ops registered.

    Args:
        run_deploy_models: Also run untouched deploy models; see :func:`register_custom_ops`.
        attributes: Attributes of ``onnxruntime.SessionOptions`` to set, for example ``intra_op_num_threads=1``.

    Raises:
        ConfigError: `SessionOptions` has no attribute of that name.
        ArgumentTypeError: An attribute was given a value of the wrong type.
        OpLibraryError: See :func:`register_custom_ops`.
    """
    options: onnxruntime.SessionOptions = onnxruntime_module().SessionOptions()
    for name, value in attributes.items():
        if name.startswith("_") or not hasattr(options, name) or callable(getattr(options, name)):
            known = [a for a in dir(options) if not a.startswith("_") and not callable(getattr(options, a))]
            msg = f"onnxruntime.SessionOptions has no attribute '{name}'."
            raise ConfigError(msg, hint=f"Use one of: {', '.join(known)}.", attribute=name)
        try:
            setattr(options, name, value)
        except TypeError as error:
            msg = f"SessionOptions.{name} cannot be set to {value!r} of type {type(value).__name__}."
            hint = f"Give a {type(getattr(options, name)).__name__}."
            raise ArgumentTypeError(msg, hint=hint, attribute=name, value=value) from error
    register_custom_ops(options, run_deploy_models=run_deploy_models)
    return options


def open_session(
    path: str | os.PathLike[str],
    op_libraries: Sequence[str] = (),
    *,
    optimize: bool = True,
    threads: int | None = None,
    run_deploy_models: bool = False,
) -> onnxruntime.InferenceSession:
    """Load a model into ONNX Runtime's CPU provider with the custom ops registered.

    Args:
        path: The model.
        op_libraries: Libraries of further custom operators.
        optimize: Whether ONNX Runtime may fuse and re-arrange operators.
        threads: Intra-op threads; default: ONNX Runtime's, one a core.
        run_deploy_models: Whether the model is an untouched deploy model.

    Raises:
        OpLibraryError: A library is missing or refused.
        ModelError: The file is missing, or ONNX Runtime refuses it (its reason is quoted).
    """
    if not Path(path).is_file():
        raise ModelError(f"Model file {os.fspath(path)!r} does not exist.", hint="Check the path.", path=str(path))
    runtime = onnxruntime_module()
    options = session_options(
        run_deploy_models=run_deploy_models, log_severity_level=4
    )  # a failure is raised as well; do not print it too
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # One block for all activations, planned ahead, is half as much again as the arena takes, and no faster.
    options.enable_mem_pattern = False
    # Sessions take turns here: a pool that spins while its session waits would take the cores from the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for library in op_libraries:
        register_op_library(options, library)
    try:
        return runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exception types are private to its binding
        raise ModelError(
            f"ONNX Runtime cannot load {os.fspath(path)!r}: {first_line(error)}",
            hint="Check the file with 'ort-quant inspect'; pass --op-library for custom operators.",
            path=str(path),
        ) from error


def register_op_library(options: onnxruntime.SessionOptions, library: str) -> None:
    """Register somebody else's custom-op library.

    Raises:
        OpLibraryError: It is missing or refused.
    """
    try:
        options.register_custom_ops_library(library)
    except Exception as error:  # as above
        raise OpLibraryError(
            f"ONNX Runtime refused the custom-op library {library!r}: {first_line(error)}",
            hint="Check the path given with --op-library; ort-quant's own library is registered already.",
            path=library,
        ) from error


def first_line(error: Exception) -> str:
    """What an exception says, on one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _check_runtime_version(version: str) -> None:
    """Refuse runtimes older than the library's API; unreadable version texts pass, the library checks too."""
    parts = version.split(".")[:2]
    if not all(part.isdigit() for part in parts):
        return
    if tuple(map(int, parts)) < _OLDEST_RUNTIME:
        oldest = ".".join(map(str, _OLDEST_RUNTIME))
        msg = f"The custom-op library needs ONNX Runtime {oldest} or newer, but {version} is installed."
        raise OpLibraryError(msg, hint="pip install --upgrade onnxruntime.", version=version, required=oldest)
