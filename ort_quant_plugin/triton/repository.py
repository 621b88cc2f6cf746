"""Write models into a Triton model repository: whole or not at all, versions side by side.

::

    <repository>/<name>/config.pbtxt
                        libort_quant_ops.so         if the model needs it and the path rule wants a copy
                        <version>/model.onnx        and its data files; model.py for the python backend

The libraries lie beside ``config.pbtxt``, not in a version folder: all versions share one configuration.
"""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import ConfigError, OutputError, TritonError, UnsupportedError
from ort_quant_plugin.files import staging_folder, unwritable
from ort_quant_plugin.model import refuse_existing
from ort_quant_plugin.ops.library import DEPLOY_LIBRARY_NAME, get_library_path
from ort_quant_plugin.passes.insert_observers import FLUSH
from ort_quant_plugin.triton.config import CONFIG_NAME, ModelConfig, build_config, config_text, parse_config
from ort_quant_plugin.triton.library_paths import configured_libraries, copied_libraries, server_paths
from ort_quant_plugin.triton.signature import Signature, read_signature

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ort_quant_plugin.triton.options import RepositoryOptions

__all__ = ["MODEL_NAME", "WrittenModel", "template_path", "version_folders", "write_model", "write_versions"]

MODEL_NAME = "model.onnx"
FOLDER_MODE = 0o755
"""Servers run as a user of their own: unlike other results, a repository is readable by all (less the umask)."""


@dataclass(frozen=True)
class WrittenModel:
    """What was written for one version of a model.

    Attributes:
        name: The model's name.
        version: The version's number.
        precision: Precision tag of this version.
        folder: The model's folder.
        config: Its ``config.pbtxt``.
        model: The model file in the version folder.
        files: Everything that was written, ``config`` and ``model`` among them.
        library_paths: Custom-op libraries as the server looks for them.
        max_batch: Largest batch; 0: requests are not batched.
        notes: What the user should know.
    """

    name: str
    version: int
    precision: str
    folder: Path
    config: Path
    model: Path
    files: tuple[Path, ...]
    library_paths: tuple[str, ...]
    max_batch: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, paths as text."""
        return {
            "name": self.name,
            "version": self.version,
            "precision": self.precision,
            "folder": str(self.folder),
            "config": str(self.config),
            "model": str(self.model),
            "files": [str(path) for path in self.files],
            "library_paths": list(self.library_paths),
            "max_batch": self.max_batch,
            "notes": list(self.notes),
        }


def write_versions(
    models: Mapping[int, str | os.PathLike[str]],
    repository: str | os.PathLike[str],
    options: RepositoryOptions,
    *,
    force: bool = False,
) -> list[WrittenModel]:
    """Write several models as versions of one name; see :func:`write_model`."""
    return [
        write_model(model, repository, replace(options, version=version), force=force)
        for version, model in sorted(models.items())
    ]


def write_model(
    model: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    options: RepositoryOptions,
    *,
    force: bool = False,
) -> WrittenModel:
    """Write a model as one version of a name in a repository.

    Where the name has other versions, the configuration that is there is kept and given what this version needs
    besides: its libraries, its graph level, its precision tag. Inputs and outputs must be the same.

    Args:
        model: The ONNX file; data files beside it are copied too.
        repository: The repository's folder; made if it does not exist.
        options: How the model is served.
        force: Overwrite the version if it exists, and write the configuration anew.

    Raises:
        OutputError: The version exists and ``force`` is not set, or the folder cannot be written.
        ConfigError: The options ask for what the model cannot do, or the versions do not fit together.
        ModelError: The model cannot be read; UnsupportedError: or not be served by Triton.
        OpLibraryError: The model needs our library and it is not there.
        TritonError: What is in the repository cannot be extended, or tritonclient is not installed.
    """
    repository = Path(repository)
    folder = repository / options.name
    refuse_existing([folder / str(options.version)], force=force)
    signature = _signature(model, options)
    _check_operators(signature, options)
    versions = {**_existing_signatures(folder, options), options.version: signature}
    names = _library_names(versions)
    config = build_config(versions, options, library_paths=server_paths(names, options, repository))
    notes = _notes(config, versions, options)
    if (folder / CONFIG_NAME).is_file() and not force:
        config, kept = _extended(parse_config(folder / CONFIG_NAME), config, options)
        if kept:
            notes.append(f"{folder / CONFIG_NAME} keeps its own {', '.join(kept)}; --force writes it anew.")
    try:
        with staging_folder(repository, mode=FOLDER_MODE) as staging:
            stage = staging / options.name
            _write_stage(stage, signature, config, copied_libraries(names, options), options)
            written = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
            notes += _replaced_libraries(stage, folder)
            _install(stage, folder, str(options.version), staging / "replaced")
    except OutputError:  # an OSError too, and complete
        raise
    except OSError as error:
        raise unwritable(Path(error.filename or folder), error) from error
    return WrittenModel(
        name=options.name,
        version=options.version,
        precision=signature.precision,
        folder=folder,
        config=folder / CONFIG_NAME,
        model=folder / str(options.version) / MODEL_NAME,
        files=tuple(folder / path for path in written),
        library_paths=tuple(configured_libraries(config)),
        max_batch=config.max_batch_size,
        notes=tuple(notes),
    )


def version_folders(folder: Path) -> dict[int, Path]:
    """The version folders of a model, by number; other folders are none to Triton."""
    if not folder.is_dir():
        return {}
    found = {path.name: path for path in folder.iterdir() if path.is_dir()}
    return {int(name): found[name] for name in sorted(found) if name.isdecimal() and not name.startswith("0")}


def template_path(name: str) -> Path:
    """The ``model.py`` of a python-backend model that this package ships: preprocess, postprocess or onnx."""
    return Path(str(files("ort_quant_plugin") / "triton" / "models" / name / "model.py"))


def _signature(model: str | os.PathLike[str], options: RepositoryOptions) -> Signature:
    return read_signature(model, [library for library in options.op_libraries if Path(library).is_file()])


def _check_operators(signature: Signature, options: RepositoryOptions) -> None:
    if signature.foreign_domains and not options.op_libraries:
        raise UnsupportedError(
            f"{str(signature.path)!r} uses operators of {', '.join(signature.foreign_domains)}, which no given library "
            "implements.",
            hint="Give the library, as the server finds it, with --op-library.",
            domains=signature.foreign_domains,
        )


def _existing_signatures(folder: Path, options: RepositoryOptions) -> dict[int, Signature]:
    found = {}
    for number, version in version_folders(folder).items():
        if number == options.version:
            continue
        if not (version / MODEL_NAME).is_file():
            raise TritonError(
                f"{version} holds no {MODEL_NAME}, so version {options.version} cannot be put beside it.",
                hint="Choose another name, or remove the folder.",
                path=str(version),
            )
        found[number] = _signature(version / MODEL_NAME, options)
    return found


def _library_names(versions: Mapping[int, Signature]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, s in sorted(versions.items()) for name in s.libraries))


def _notes(config: ModelConfig, versions: Mapping[int, Signature], options: RepositoryOptions) -> list[str]:
    signature, notes = versions[options.version], []
    if options.max_batch is None and config.max_batch_size == 0 and not signature.is_calibration:
        notes.append("The model has no free batch axis: requests are not joined (max_batch_size 0).")
    if signature.is_calibration and not any(tensor.name == FLUSH for tensor in signature.inputs):
        notes.append("Its operators write the record on the server, at the path given when the model was made.")
    kinds = {other.kind for other in versions.values()}
    if "fake_quant" in kinds and len(kinds) > 1 and options.graph_level is None:
        notes.append("Graph optimization is off for all versions, as the fake_quant version needs it.")
    if "deploy" in kinds and len(kinds) > 1:
        notes.append(
            "All versions run with the deploy library, which costs float layers speed; an ort model does not need it."
        )
    if options.warmup and not config.model_warmup and not signature.is_calibration:
        notes.append("No warm-up: an input has a free axis; give its size with --input-shape.")
    if signature.libraries and options.ops_path == "bare" and options.backend == "onnxruntime":
        notes.append(
            f"Put {' and '.join(signature.libraries)} into a folder of the server's LD_LIBRARY_PATH; "
            "'ort-quant ops path' tells where they are."
        )
    return notes


def _extended(existing: ModelConfig, wanted: ModelConfig, options: RepositoryOptions) -> tuple[ModelConfig, list[str]]:
    """The configuration that is there with what another version needs, and which fields it keeps as they were."""
    if existing.backend != wanted.backend:
        raise ConfigError(
            f"Model {options.name!r} is served by backend {existing.backend!r}; a version cannot have another.",
            hint=f"Use --backend {existing.backend}, or another name.",
            value=options.backend,
        )
    result = type(existing)()
    result.CopyFrom(existing)
    result.metric_tags["precision"] = wanted.metric_tags["precision"]
    if wanted.optimization.graph.level:
        result.optimization.graph.level = wanted.optimization.graph.level
    libraries = result.model_operations.op_library_filename
    known = {PurePosixPath(path).name for path in libraries}  # one library by two paths would be refused
    libraries.extend(
        path for path in wanted.model_operations.op_library_filename if PurePosixPath(path).name not in known
    )
    if "op_library_filename" in wanted.parameters:
        parameter = wanted.parameters["op_library_filename"]
        result.parameters["op_library_filename"].CopyFrom(parameter)
    names = {field.name for field, _ in (*result.ListFields(), *wanted.ListFields())}
    return result, sorted(name for name in names if getattr(result, name) != getattr(wanted, name))


def _write_stage(
    stage: Path, signature: Signature, config: ModelConfig, libraries: tuple[str, ...], options: RepositoryOptions
) -> None:
    version = stage / str(options.version)
    version.mkdir(parents=True)
    shutil.copyfile(signature.path, version / MODEL_NAME)
    for location in signature.external_files:
        (version / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(signature.path.parent / location, version / location)
    if options.backend == "python":
        shutil.copyfile(template_path("onnx"), version / "model.py")
    for name in libraries:
        deploy = name == DEPLOY_LIBRARY_NAME
        shutil.copyfile(get_library_path(deploy=deploy), stage / name)
    (stage / CONFIG_NAME).write_text(config_text(config), encoding="utf-8")


def _replaced_libraries(stage: Path, folder: Path) -> list[str]:
    changed = [
        path.name
        for path in stage.glob("*.so")
        if (folder / path.name).is_file() and not filecmp.cmp(path, folder / path.name, shallow=False)
    ]
    return [f"{name} is replaced; servers that loaded the old one keep it until they restart." for name in changed]


def _install(stage: Path, folder: Path, version: str, replaced: Path) -> None:
    """Move what is complete to its place; the version folder comes last, so that its library is there before it."""
    if not folder.exists():
        stage.rename(folder)
        return
    for path in sorted(stage.iterdir(), key=lambda item: item.name == CONFIG_NAME):
        if path.is_file():
            path.replace(folder / path.name)
    target = folder / version
    if target.exists():
        target.rename(replaced)
    try:
        (stage / version).rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
