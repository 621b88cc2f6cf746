"""Every hook a plugin may implement. The reference for plugin authors is ``docs/reference/hooks.md``.

A plugin is a module (or any object) whose functions carry :data:`hookimpl` and the name of a hook. An implementation
may leave arguments out; it must not add any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import click
    import onnx_ir as ir

    from ort_quant_plugin.calibration.methods.base import CalibrationMethod
    from ort_quant_plugin.config.model import QuantConfig
    from ort_quant_plugin.export.base import Exporter
    from ort_quant_plugin.gates.metrics.base import GateMetric
    from ort_quant_plugin.passes.base import GraphPass
    from ort_quant_plugin.passes.pipeline import Pipeline
    from ort_quant_plugin.plugins.kinds import ReportSection, Target
    from ort_quant_plugin.plugins.registry import Registrar
    from ort_quant_plugin.report import QuantizationReport
    from ort_quant_plugin.weights.base import WeightQuantizer

__all__ = [
    "HOOK_NAMES",
    "PROJECT",
    "hookimpl",
    "ort_quant_modify_pipeline",
    "ort_quant_register_commands",
    "ort_quant_register_exporters",
    "ort_quant_register_gate_metrics",
    "ort_quant_register_importers",
    "ort_quant_register_methods",
    "ort_quant_register_metrics",
    "ort_quant_register_op_libraries",
    "ort_quant_register_passes",
    "ort_quant_register_targets",
    "ort_quant_register_weight_quantizers",
    "ort_quant_report",
    "ort_quant_should_quantize",
]

PROJECT = "ort_quant_plugin"
"""pluggy project name and entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ort_quant_register_methods(registry: Registrar[CalibrationMethod]) -> None:
    """Add calibration methods: ways to choose the range of an activation.

    Args:
        registry: ``registry.add(name, method)``; ``method`` follows ``calibration.methods.CalibrationMethod``.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read. The name is then legal as ``act_algo`` and ``--method``.
    """


@hookspec
def ort_quant_register_weight_quantizers(registry: Registrar[WeightQuantizer]) -> None:
    """Add weight quantizers: ways to turn constant weights into integers and scales.

    Args:
        registry: ``registry.add(name, quantizer)``; ``quantizer`` follows ``weights.WeightQuantizer``.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read. The name is then legal as ``wts_algo`` in JSON files.
    """


@hookspec
def ort_quant_register_passes(registry: Registrar[GraphPass]) -> None:
    """Add graph passes that run when a model is prepared.

    Args:
        registry: ``registry.add(name, graph_pass, after=(...), before=(...))``; ``graph_pass`` follows
            ``passes.GraphPass``; the options name passes of the same phase, or of another that agrees.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read. Without options a pass runs last in its phase, in the
        order of registration.
    """


@hookspec
def ort_quant_register_exporters(registry: Registrar[Exporter]) -> None:
    """Add exporters: each turns a calibrated model into the model of one target.

    Args:
        registry: ``registry.add(name, exporter)``; ``exporter`` follows ``export.base.Exporter`` and its ``target`` is
            registered, by this plugin or another.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read.
    """


@hookspec
def ort_quant_register_importers(registry: Registrar[Callable[..., Any]]) -> None:
    """Add importers: each reads another tool's calibration result as a record.

    Args:
        registry: ``registry.add(name, importer)``; ``importer(path, layers)`` takes a ``pathlib.Path`` and the
            ``LayerTable`` of the model and returns a ``record.Record``.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read.
    """


@hookspec
def ort_quant_register_targets(registry: Registrar[Target]) -> None:
    """Add targets: where an int8 model runs.

    Args:
        registry: ``registry.add(name, Target(name, summary))``.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read. The name is then legal in ``targets=`` once an exporter
        serves it.
    """


@hookspec
def ort_quant_register_metrics(registry: Registrar[Callable[[Any, Any], float]]) -> None:
    """Add metrics: numbers that tell how far a quantized output is from the float one.

    Args:
        registry: ``registry.add(name, metric)``; ``metric(reference, candidate)`` takes one output of both models for
            one batch, two arrays of one shape, and returns a float.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read. ``compare`` prints the mean
        over batches of each; gates judge the mean over samples.
    """


@hookspec
def ort_quant_register_gate_metrics(registry: Registrar[GateMetric]) -> None:
    """Add gate metrics: numbers that accuracy gates have thresholds for.

    Args:
        registry: ``registry.add(name, metric)``; ``metric`` is a ``gates.metrics.GateMetric``, mostly a
            ``SampleMetric``.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read. The name is then legal as ``metric=`` of a gate.
    """


@hookspec
def ort_quant_register_op_libraries(registry: Registrar[str | os.PathLike[str]]) -> None:
    """Add custom-op libraries that sessions must load, for ops in a user's model or in a calibration method.

    Args:
        registry: ``registry.add(name, path)``; ``path`` is a shared library that exports ``RegisterCustomOps``.

    Returns:
        Nothing.

    When:
        Once per manager, before the first registry is read.
    """


@hookspec
def ort_quant_register_commands(registry: Registrar[click.Command]) -> None:
    """Add subcommands of ``ort-quant``.

    Args:
        registry: ``registry.add(name, command)``; ``command`` is a ``click.Command`` or ``click.Group``. Names of the
            tool's own commands are taken.

    Returns:
        Nothing.

    When:
        Once per manager, when the command line starts: keep the imports of the module light.
    """


@hookspec(firstresult=True)
def ort_quant_should_quantize(node: ir.Node, config: QuantConfig) -> bool | None:
    """Say whether a layer is quantized.

    Args:
        node: The layer, a node of the prepared model that can be quantized and that the configuration enables.
        config: The whole configuration.

    Returns:
        ``False``: it stays float, and the report names the plugin. ``True``: it is quantized and no further plugin is
        asked. ``None``: no opinion; a layer nobody has an opinion on is quantized.

    When:
        Once per such layer, before calibration nodes are inserted.
    """


@hookspec
def ort_quant_modify_pipeline(pipeline: Pipeline, config: QuantConfig | None) -> None:
    """Add, remove, replace or reorder the graph passes of a run, in place.

    Args:
        pipeline: The passes of all plugins.
        config: The configuration; ``None`` where a model is prepared before there is one.

    Returns:
        Nothing.

    When:
        Once per preparation of a model, after all passes are registered.
    """


@hookspec
def ort_quant_report(report: QuantizationReport) -> ReportSection | None:
    """Add a titled section to the report of a run.

    Args:
        report: The finished report; read it, do not change it.

    Returns:
        The section, or ``None``.

    When:
        Once at the end of a run, after all models are written.
    """


HOOK_NAMES: tuple[str, ...] = tuple(name for name in __all__ if name.startswith("ort_quant_"))
"""Every hook of this module."""
