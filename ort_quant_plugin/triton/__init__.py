"""Serve models with Triton Inference Server: write repositories, check them, run a server, call and measure it.

Names are loaded when they are used; importing the package needs neither tritonclient nor ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_quant_plugin.triton.client import TritonClient, connect
    from ort_quant_plugin.triton.collect import calibrate_from_triton, collect_sketches
    from ort_quant_plugin.triton.config import build_config, config_text, parse_config
    from ort_quant_plugin.triton.ensemble import Classifier, WrittenEnsemble, write_ensemble
    from ort_quant_plugin.triton.finding import Finding
    from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions
    from ort_quant_plugin.triton.releases import OLDEST, RELEASES, Release, release
    from ort_quant_plugin.triton.repository import WrittenModel, write_model, write_versions
    from ort_quant_plugin.triton.server import DevServer
    from ort_quant_plugin.triton.signature import Signature, read_signature
    from ort_quant_plugin.triton.validate import validate_repository

__all__ = [
    # write a repository
    "RepositoryOptions",
    "DynamicBatching",
    "write_model",
    "write_versions",
    "WrittenModel",
    "Classifier",
    "write_ensemble",
    "WrittenEnsemble",
    # its parts
    "Signature",
    "read_signature",
    "build_config",
    "config_text",
    "parse_config",
    # check it
    "Finding",
    "validate_repository",
    "Release",
    "RELEASES",
    "OLDEST",
    "release",
    # serve and call it
    "DevServer",
    "TritonClient",
    "connect",
    "collect_sketches",
    "calibrate_from_triton",
]

_HOMES = {
    "Classifier": "ensemble",
    "DevServer": "server",
    "DynamicBatching": "options",
    "Finding": "finding",
    "OLDEST": "releases",
    "RELEASES": "releases",
    "Release": "releases",
    "RepositoryOptions": "options",
    "Signature": "signature",
    "TritonClient": "client",
    "WrittenEnsemble": "ensemble",
    "WrittenModel": "repository",
    "build_config": "config",
    "calibrate_from_triton": "collect",
    "collect_sketches": "collect",
    "config_text": "config",
    "connect": "client",
    "parse_config": "config",
    "read_signature": "signature",
    "release": "releases",
    "validate_repository": "validate",
    "write_ensemble": "ensemble",
    "write_model": "repository",
    "write_versions": "repository",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
