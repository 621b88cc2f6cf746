"""Write the files of all targets together: either every one appears or none does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ConfigError, OutputError
from ort_quant_plugin.export.base import Findings
from ort_quant_plugin.export.quant_info import quant_info
from ort_quant_plugin.files import staging_folder, write_text
from ort_quant_plugin.memory import return_freed_memory
from ort_quant_plugin.model import is_external, write_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from ort_quant_plugin.export.base import Exporter, ExportOptions
    from ort_quant_plugin.export.plan import Plan

__all__ = ["output_paths", "select_exporters", "split_save_path", "write_targets"]

_AMCT_TARGETS = frozenset({"fake_quant", "ascend"})  # their nodes are the ones quant.json maps
_MAX_PREFIX = 241  # AMCT's limit


def split_save_path(save_path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Folder and file-name prefix: ``out/resnet`` → (``out``, ``resnet``); ``out/`` and ``""`` have no prefix.

    Raises:
        OutputError: The prefix is longer than 241 characters.
    """
    text = os.fspath(save_path)
    folder, prefix = os.path.split(text)
    if len(prefix) > _MAX_PREFIX:
        raise OutputError(
            f"The file-name prefix of {text!r} has {len(prefix)} characters; expected at most {_MAX_PREFIX}.",
            hint="Shorten save_path.",
            path=text,
        )
    return Path(folder or "."), prefix


def select_exporters(exporters: Mapping[str, Exporter], targets: Sequence[str]) -> list[Exporter]:
    """The exporters of ``targets``, in that order.

    Raises:
        ConfigError: An unknown or repeated target, or none at all.
    """
    by_target = {exporter.target: exporter for exporter in exporters.values()}
    unknown = [t for t in targets if t not in by_target]
    if unknown or not targets or len(set(targets)) != len(targets):
        what = (
            f"Unknown target {unknown[0]!r}" if unknown else f"targets = {list(targets)!r} is empty or repeats itself"
        )
        raise ConfigError(f"{what}; expected some of {', '.join(by_target)}.", hint="Choose targets from that list.")
    return [by_target[t] for t in targets]


def output_paths(save_path: str | os.PathLike[str], exporters: Sequence[Exporter]) -> dict[str, Path]:
    """Final path by target, plus ``info`` for the layer map."""
    folder, prefix = split_save_path(save_path)
    start = f"{prefix}_" if prefix else ""
    paths = {exporter.target: folder / f"{start}{exporter.file_suffix}" for exporter in exporters}
    return paths | {"info": folder / f"{prefix}_quant.json"}


def write_targets(
    model: ir.Model,
    plan: Plan,
    save_path: str | os.PathLike[str],
    exporters: Sequence[Exporter],
    options: ExportOptions,
    *,
    extra_files: Mapping[str, str] | None = None,
    external: bool = False,
) -> tuple[dict[str, Path], dict[str, Findings]]:
    """Export and check every target in a staging folder, then move all files into place.

    Args:
        model: The calibrated model without observers; not changed.
        plan: Its numbers.
        save_path: Folder and prefix.
        exporters: What to write.
        options: The caller's choices.
        extra_files: Further text files by name (no folder).
        external: Whether tensors go to external files even where the model holds them in memory.

    Returns:
        Final paths by target (``info`` too), and what the exporters said.

    Raises:
        OutputError: The folder cannot be written.
    """
    paths = output_paths(save_path, exporters)
    folder, prefix = split_save_path(save_path)
    results: dict[str, Findings] = {}
    with staging_folder(folder) as staging:
        for exporter in exporters:
            return_freed_memory()
            exported = exporter.export(model.clone(), plan, options)
            target = staging / paths[exporter.target].name
            if exporter.target in _AMCT_TARGETS and not (staging / paths["info"].name).exists():
                write_text(staging / paths["info"].name, quant_info(exported.model, plan, prefix))
            write_model(
                exported.model,
                target,
                # AMCT has no prefix here, so that a second model in the same folder overwrites the first one's weights.
                external_prefix=f"{prefix}_" if prefix else "",
                external_suffix=exported.external_suffix,
                force_external=external or is_external(model),
            )
            exporter.verify(target, exported, plan, options)
            results[exporter.target] = Findings(exported.notes, exported.stayed_float)  # the model may go
            del exported
        for name, text in (extra_files or {}).items():
            write_text(staging / name, text)
        written = sorted(staging.iterdir())
        for file in written:
            file.replace(folder / file.name)
    names = {file.name for file in written}
    return {key: path for key, path in paths.items() if path.name in names}, results
