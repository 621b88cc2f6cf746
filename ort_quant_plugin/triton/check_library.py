"""Whether the server will find the custom-op libraries a configuration names, and can load them."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import OpLibraryError
from ort_quant_plugin.ops.library import DEPLOY_LIBRARY_NAME, LIBRARY_NAME, get_library_path
from ort_quant_plugin.triton.elf import LibraryFacts, read_library, version_key
from ort_quant_plugin.triton.library_paths import configured_libraries
from ort_quant_plugin.triton.releases import API_NEEDED, OLDEST, RELEASES, Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.triton.config import ModelConfig
    from ort_quant_plugin.triton.finding import Findings
    from ort_quant_plugin.triton.signature import Signature

__all__ = ["OUR_LIBRARIES", "check_libraries"]

OUR_LIBRARIES = frozenset({LIBRARY_NAME, DEPLOY_LIBRARY_NAME})
_SYSTEM = ("libc.", "libm.", "libstdc++.", "libgcc_s.", "libpthread.", "libdl.", "librt.", "ld-linux")


def check_libraries(
    folder: Path, config: ModelConfig, signatures: Sequence[Signature], findings: Findings, release: Release | None
) -> list[Path] | None:
    """Check the libraries of one model.

    Args:
        folder: The model's folder.
        config: Its configuration.
        signatures: Its versions.
        findings: Receives what is found.
        release: Triton release that will serve the model, if known.

    Returns:
        The libraries on this machine, in the order to register them, this package's own for those of ours that only
        the server has; ``None`` if one is not here or is no library.
    """
    paths = configured_libraries(config)
    _check_names(paths, signatures, findings)
    local: list[Path] = []
    for path in paths:
        found, label = _find(path, folder, config, findings)
        if found is not None and _check_file(label, found, findings, release):
            local.append(found)
    ours = [name for name in (PurePosixPath(path).name for path in paths) if name in OUR_LIBRARIES]
    twice = len(set(local)) < len(local) or len(set(ours)) < len(ours)
    if twice:
        findings.error(
            "library",
            "One library is named twice: ONNX Runtime refuses the second ('Domain already set in registry').",
            "Name each library once.",
        )
    return local if len(local) == len(paths) and not twice else None


def _check_names(paths: Sequence[str], signatures: Sequence[Signature], findings: Findings) -> None:
    names = {PurePosixPath(path).name for path in paths}
    for missing in {name for signature in signatures for name in signature.libraries} - names:
        users = ", ".join(str(s.path.parent.name) for s in signatures if missing in s.libraries)
        if names - OUR_LIBRARIES:
            findings.warning("library", f"Version {users} needs {missing}; only other libraries are named.")
            continue
        findings.error(
            "library",
            f"Version {users} needs {missing}, which the configuration does not name (LD_PRELOAD does not help).",
            "Name it in model_operations { op_library_filename: … }, or write the model with 'ort-quant triton new'.",
        )


def _find(path: str, folder: Path, config: ModelConfig, findings: Findings) -> tuple[Path | None, str]:
    """The library on this machine, and what to call it; says how the server looks for it where that is doubtful."""
    pure = PurePosixPath(path)
    if config.backend == "python":
        found = folder / path
        if found.is_file():
            return found, path
        findings.error("library", f"{path} is not beside config.pbtxt.", "Write the model again with --force.")
        return None, path
    if "$$" in path:
        findings.error(
            "library",
            f"{path}: the ONNX Runtime backend does not replace such names; they are the python backend's.",
            "Give an absolute path.",
        )
        return None, path
    if pure.is_absolute():
        return _find_absolute(pure, folder, findings)
    if len(pure.parts) > 1 or path.startswith("."):
        findings.warning(
            "library",
            f"{path} is relative to the server's working directory, not to the model's folder.",
            "Give an absolute path, or a bare file name and LD_LIBRARY_PATH.",
        )
        return _own_copy(pure)
    return _find_bare(path, findings)


def _find_bare(name: str, findings: Findings) -> tuple[Path | None, str]:
    for place in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if place and (Path(place) / name).is_file():
            return Path(place) / name, name
    findings.warning(
        "library",
        f"{name} is a bare name: the server finds it only in a folder of its LD_LIBRARY_PATH.",
        "Set LD_LIBRARY_PATH in the server's environment to the folder that holds it.",
    )
    return _own_copy(PurePosixPath(name))


def _find_absolute(path: PurePosixPath, folder: Path, findings: Findings) -> tuple[Path | None, str]:
    if Path(path).is_file():
        return Path(path), str(path)
    repository = folder.resolve().parent
    for start in range(1, len(path.parts)):
        inside = repository.joinpath(*path.parts[start:])
        if inside.is_file():
            mount = PurePosixPath(*path.parts[:start])
            findings.ok("library", f"{path} lies in this repository, if the server sees it as {mount}.")
            return inside, str(path)
    if Path(path).is_relative_to(repository):
        findings.error(
            "library", f"{path} does not exist.", "Write the model again with 'ort-quant triton new --force'."
        )
        return None, str(path)
    findings.warning(
        "library",
        f"{path} is not on this machine, so that very file was not checked.",
        "See that the library of this package's version is at this path on the server.",
    )
    return _own_copy(path)


def _own_copy(path: PurePosixPath) -> tuple[Path | None, str]:
    """This package's copy of a library that only the server has, if it is one of ours."""
    label = f"This package's {path.name}"
    if path.name not in OUR_LIBRARIES:
        return None, label
    try:
        return Path(get_library_path(deploy=path.name == DEPLOY_LIBRARY_NAME)), label
    except OpLibraryError:
        return None, label


def _check_file(path: str, found: Path, findings: Findings, release: Release | None) -> bool:
    try:
        facts = read_library(found)
    except OpLibraryError as error:
        findings.error("library", error.message, error.hint)
        return False
    if not facts.registers:
        findings.error(
            "library",
            f"{path} has no function RegisterCustomOps: it is no custom-op library.",
            "Name the library that implements the operators.",
        )
        return False
    strangers = [name for name in facts.needed if not name.startswith(_SYSTEM)]
    if strangers:
        findings.warning(
            "library",
            f"{path} is linked with {', '.join(strangers)}, which the server's image must have.",
            "Add them to the image, or link them statically.",
        )
    if release is not None:
        _check_release(path, facts, findings, release)
        return True
    fitting = [r.name for r in RELEASES.values() if not _too_old(r, facts)]
    needs = _needs(facts)
    if fitting:
        findings.ok("library", f"{path} loads in Triton {fitting[0]} and newer{needs}.")
    else:
        findings.warning(
            "library", f"{path} loads in no Triton image of the table{needs}.", "Build it on Ubuntu 22.04."
        )
    return True


def _needs(facts: LibraryFacts) -> str:
    versions = [f"{kind}_{v}" for kind, v in (("GLIBC", facts.glibc), ("GLIBCXX", facts.glibcxx)) if v]
    machine = facts.machine.removeprefix("EM_").lower()
    return f" on {machine}" + (f" (needs {', '.join(versions)})" if versions else "")


def _too_old(release: Release, facts: LibraryFacts) -> list[str]:
    """What of a release's image is older than the library needs."""
    short = []
    if facts.path.name in OUR_LIBRARIES and not release.supported:
        short.append(f"API {API_NEEDED} of ONNX Runtime; {release.onnxruntime} gives {release.api}")
    if version_key(facts.glibc) > version_key(release.glibc):
        short.append(f"GLIBC_{facts.glibc}; Ubuntu {release.ubuntu} has {release.glibc}")
    if version_key(facts.glibcxx) > version_key(release.glibcxx):
        short.append(f"GLIBCXX_{facts.glibcxx}; Ubuntu {release.ubuntu} has {release.glibcxx}")
    return short


def _check_release(path: str, facts: LibraryFacts, findings: Findings, release: Release) -> None:
    short = _too_old(release, facts)
    if not short:
        findings.ok("library", f"{path} loads in Triton {release.name}{_needs(facts)}.")
    for need in short:
        hint = f"Use Triton {OLDEST} or newer." if need.startswith("API") else "Build the library on an older system."
        findings.error("library", f"{path} does not load in Triton {release.name}: it needs {need}.", hint)
