"""Where the server finds our libraries, and whether a copy has to lie in the repository for it.

Triton hands the configured text to ``dlopen`` as it is: an absolute path is opened, a bare file name is looked for on
the loader's path, anything else is relative to the server's working directory. Model folders are never searched.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ort_quant_plugin.ops.library import LIBRARY_NAME
from ort_quant_plugin.triton.options import KSERVE_MOUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.triton.config import ModelConfig
    from ort_quant_plugin.triton.options import RepositoryOptions

__all__ = ["configured_libraries", "copied_libraries", "server_paths"]


def configured_libraries(config: ModelConfig) -> list[str]:
    """The libraries a configuration names, in the order they are registered."""
    if config.backend != "python":
        return list(config.model_operations.op_library_filename)
    # Reading a missing entry of a protobuf map would create it.
    found = "op_library_filename" in config.parameters
    value: str = config.parameters["op_library_filename"].string_value if found else ""
    return [path for path in value.split(":") if path]


def copied_libraries(names: Sequence[str], options: RepositoryOptions) -> tuple[str, ...]:
    """Which of the libraries are copied into the model's folder."""
    inside = options.backend == "python" or options.ops_path in {"absolute", "kserve"}
    return tuple(names) if inside else ()


def server_paths(names: Sequence[str], options: RepositoryOptions, repository: Path) -> tuple[str, ...]:
    """The libraries as the configuration names them, ours first, then the user's.

    Args:
        names: File names of our libraries.
        options: The rule, the model's name and the user's libraries.
        repository: Where the repository is written.
    """
    return (*(_server_path(name, options, repository) for name in names), *options.op_libraries)


def _server_path(name: str, options: RepositoryOptions, repository: Path) -> str:
    if options.backend == "python" or options.ops_path == "bare":
        return name
    if options.ops_path == "absolute":
        root = PurePosixPath(options.mount or repository.resolve())
        return str(root / options.name / name)
    if options.ops_path == "kserve":
        return str(PurePosixPath(KSERVE_MOUNT) / options.name / name)
    given = PurePosixPath(options.ops_path)
    if given.suffix != ".so":
        return str(given / name)
    # The path names the ops' library; a deploy model's second one lies beside it.
    return str(given if name == LIBRARY_NAME else given.with_name(name))
