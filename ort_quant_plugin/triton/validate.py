"""Check a model repository without a server: would it load, and would it answer as the models do?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import OrtQuantError, TritonError
from ort_quant_plugin.triton.check_ensemble import check_ensemble
from ort_quant_plugin.triton.check_library import OUR_LIBRARIES, check_libraries
from ort_quant_plugin.triton.check_model import check_advice, check_release, check_run, check_signature, check_warmup
from ort_quant_plugin.triton.config import CONFIG_NAME, ModelConfig, config_messages, parse_config
from ort_quant_plugin.triton.finding import Finding, Findings
from ort_quant_plugin.triton.library_paths import configured_libraries
from ort_quant_plugin.triton.releases import release as find_release
from ort_quant_plugin.triton.repository import MODEL_NAME, version_folders
from ort_quant_plugin.triton.signature import Signature, read_signature

if TYPE_CHECKING:
    import os

    from ort_quant_plugin.triton.releases import Release

__all__ = ["model_folders", "validate_repository"]


def validate_repository(
    folder: str | os.PathLike[str], *, release: str | None = None, server: str | None = None, run: bool = True
) -> list[Finding]:
    """Check a model repository.

    Args:
        folder: The repository: the folder that holds the models' folders.
        release: Triton release that will serve it, such as ``26.06``: its ONNX Runtime and its system must be new
            enough for the libraries.
        server: URL of a running server on this repository: what it loaded and how it answers is checked too.
        run: Also load every model into this machine's ONNX Runtime and run zeros through it.

    Returns:
        What was found, model by model. No finding of level ``error``: the repository is right as far as this sees.

    Raises:
        TritonError: The folder is no model repository, or tritonclient or pyelftools is not installed.
        ConfigError: The release is not known.
    """
    folder = Path(folder)
    wanted = None if release is None else find_release(release)
    config_messages()
    folders = model_folders(folder)
    findings = {path.name: Findings(path.name) for path in folders}
    configs = {path.name: _read_config(path, findings[path.name]) for path in folders}
    for path in folders:
        config = configs[path.name]
        if config is not None:
            _check_model(path, config, configs, findings[path.name], wanted, run=run)
    found = [finding for path in folders for finding in findings[path.name].found]
    if server is not None:
        from ort_quant_plugin.triton.validate_server import check_server

        found += check_server(folder, server)
    return found


def model_folders(repository: Path) -> list[Path]:
    """The models' folders of a repository, by name.

    Raises:
        TritonError: There is no such folder, it is a model's or a version's folder, or it holds no model.
    """
    if not repository.is_dir():
        raise TritonError(
            f"Model repository {str(repository)!r} is not a folder.",
            hint="Write one with 'ort-quant triton new MODEL.onnx --repository DIR'.",
            path=str(repository),
        )
    for level, parent in (
        ("a model's", repository.resolve().parent),
        ("a version's", repository.resolve().parent.parent),
    ):
        marker = repository / (CONFIG_NAME if level == "a model's" else MODEL_NAME)
        if marker.exists():
            raise TritonError(
                f"{str(repository)!r} is {level} folder, no repository.",
                hint=f"Give the folder that holds the models: {parent}.",
                path=str(repository),
            )
    folders = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise TritonError(
            f"Model repository {str(repository)!r} holds no model.",
            hint="Write one with 'ort-quant triton new MODEL.onnx --repository DIR'.",
            path=str(repository),
        )
    return folders


def _read_config(folder: Path, findings: Findings) -> ModelConfig | None:
    path = folder / CONFIG_NAME
    if not path.is_file():
        findings.warning(
            "config",
            f"There is no {CONFIG_NAME}: the server guesses one for models without custom operators.",
            "Write the model with 'ort-quant triton new'.",
        )
        return None
    try:
        config = parse_config(path)
    except TritonError as error:
        findings.error("config", error.message, error.hint)
        return None
    if config.name not in {"", folder.name}:
        findings.error(
            "config",
            f"The name is {config.name!r}, but the folder is called {folder.name!r}.",
            "Rename one, or leave the name out.",
        )
    return config


def _check_model(
    folder: Path,
    config: ModelConfig,
    configs: dict[str, ModelConfig | None],
    findings: Findings,
    release: Release | None,
    *,
    run: bool,
) -> None:
    if not (config.backend or config.platform):
        findings.error("config", "Neither backend nor platform is given.", 'Write backend: "onnxruntime".')
        return
    versions = _check_versions(folder, config, findings)
    check_warmup(config, folder, findings)
    _check_labels(folder, config, findings)
    if config.HasField("ensemble_scheduling") or config.platform == "ensemble":
        check_ensemble(config, configs, findings)
        return
    python = config.backend == "python"
    if python:
        _check_scripts(versions, findings)
    elif config.backend != "onnxruntime" and config.platform != "onnxruntime_onnx":
        findings.ok("config", f"Backend {config.backend or config.platform!r}: only the configuration was checked.")
        return
    name = MODEL_NAME if python else config.default_model_filename or MODEL_NAME
    signatures = _read_models(versions, name, findings, config, required=not python)
    for number, signature in signatures.items():
        check_signature(config, signature, f"version {number}", findings)
        if release is not None:
            check_release(signature, release, f"version {number}", findings)
    if not signatures:
        return
    check_advice(config, list(signatures.values()), findings)
    libraries = check_libraries(folder, config, list(signatures.values()), findings, release)
    if run and libraries is not None and not findings.has_errors():
        for number, signature in signatures.items():
            check_run(config, signature, libraries, f"version {number}", findings)


def _check_versions(folder: Path, config: ModelConfig, findings: Findings) -> dict[int, Path]:
    versions = version_folders(folder)
    if not versions:
        findings.error(
            "versions",
            "There is no version folder.",
            "Put the model into a folder whose name is a number, such as 1.",
        )
    strays = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and path.name != "warmup" and not (path.name.isdecimal() and not path.name.startswith("0"))
    )
    if strays:
        findings.warning(
            "versions",
            f"The server ignores {', '.join(strays)}: a version's folder is named by a number without leading zeros.",
            "Rename or remove them.",
        )
    for number in config.version_policy.specific.versions:
        if number not in versions:
            findings.error("versions", f"version_policy asks for version {number}, which is not there.", "Add it.")
    return versions


def _check_labels(folder: Path, config: ModelConfig, findings: Findings) -> None:
    for entry in config.output:
        name = entry.label_filename
        if name and (".." in Path(name).parts or not (folder / name).is_file()):
            findings.error(
                f"output {entry.name!r}", f"Label file {name!r} is not in the model's folder.", "Put it there."
            )


def _check_scripts(versions: dict[int, Path], findings: Findings) -> None:
    for number, folder in versions.items():
        script = folder / "model.py"
        try:
            compile(script.read_text(encoding="utf-8"), str(script), "exec")
            findings.ok(f"version {number}", "model.py is there and is Python.")
        except OSError as error:
            findings.error(f"version {number}", f"{script} cannot be read: {error.strerror}.", "Add the file.")
        except (SyntaxError, ValueError) as error:
            findings.error(f"version {number}", f"{script} is not Python: {error}.", "Correct the file.")


def _read_models(
    versions: dict[int, Path], name: str, findings: Findings, config: ModelConfig, *, required: bool
) -> dict[int, Signature]:
    # Ours are registered anyway, and a second copy would be refused.
    named = [Path(path) for path in configured_libraries(config)]
    libraries = [str(path) for path in named if path.is_file() and path.name not in OUR_LIBRARIES]
    found = {}
    for number, folder in versions.items():
        if not (folder / name).exists():
            if required:
                findings.error(f"version {number}", f"{folder / name} does not exist.", "Put the model there.")
            continue
        try:
            found[number] = read_signature(folder / name, libraries)
        except OrtQuantError as error:
            findings.error(f"version {number}", error.message, error.hint)
    return found
