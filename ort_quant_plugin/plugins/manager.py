"""The plugin manager: loads plugins, keeps a broken one from spoiling the rest, and calls the hooks.

The only module that calls hooks; everything else uses the typed methods of :class:`PluginManager`. Hooks are called one
plugin at a time, so an error is always some plugin's error:

* a third party's plugin that fails while it loads or registers is taken out as a whole, with one warning, and listed
  by :meth:`PluginManager.describe`; in strict mode it raises :class:`~ort_quant_plugin.errors.PluginError`;
* a plugin that fails while it decides something about a run (``should_quantize``, ``modify_pipeline``) always
  raises, because the run would otherwise give another model than the user asked for;
* a plugin that fails at the report gets a section that says so: the models are written by then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from ort_quant_plugin.errors import PluginError
from ort_quant_plugin.plugins import algorithms, builtin, hookspecs, kinds
from ort_quant_plugin.plugins.blame import blame, has_owner
from ort_quant_plugin.plugins.kinds import ReportSection
from ort_quant_plugin.plugins.loading import builtin_owner, find_entry_points, trace_hooks
from ort_quant_plugin.plugins.registry import Entry, Kind, Owner, Registrar, Registry

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import click
    import onnx_ir as ir

    from ort_quant_plugin.calibration.methods.base import CalibrationMethod
    from ort_quant_plugin.config.algorithms import AlgorithmSpec
    from ort_quant_plugin.config.model import QuantConfig
    from ort_quant_plugin.export.base import Exporter
    from ort_quant_plugin.gates.metrics.base import GateMetric
    from ort_quant_plugin.passes.base import GraphPass
    from ort_quant_plugin.passes.pipeline import Pipeline
    from ort_quant_plugin.report import QuantizationReport
    from ort_quant_plugin.weights.base import WeightQuantizer

__all__ = ["PluginManager", "build_plugin_manager"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Plugin:
    owner: Owner
    plugin: object | None
    is_builtin: bool = False
    error: str | None = None


class PluginManager:
    """Plugins and what they registered; made by :func:`build_plugin_manager`."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._pm = pluggy.PluginManager(hookspecs.PROJECT)
        self._pm.add_hookspecs(hookspecs)
        trace_hooks(self._pm)
        self._plugins: list[_Plugin] = []
        self._registries: dict[str, Registry[Any]] = {kind.name: Registry(kind) for kind in kinds.KINDS}
        self._collected: list[Kind[Any]] = []

    # Loading

    def register(self, plugin: object, *, name: str) -> None:
        """Add a plugin object, such as an instance of a class with hook implementations.

        Args:
            plugin: The object.
            name: Its name in messages and listings, unique.

        Raises:
            PluginError: It is not a plugin, its name is taken, or what it registers clashes (also when not strict: who
                registers by hand wants to know).
        """
        record = _Plugin(Owner(name), plugin)
        try:
            self._pm.register(plugin, name=name)
        except (pluggy.PluginValidationError, ValueError, TypeError) as error:
            raise blame(record.owner, "cannot be registered", error) from error
        try:
            self._admit(record)
            if self._collected and (problem := self._exporter_problem()):
                raise problem
        except PluginError:
            self._remove(record)
            raise

    def load_builtins(self) -> None:
        """Add what the package ships."""
        record = _Plugin(builtin_owner(), builtin, is_builtin=True)
        self._pm.register(builtin, name=record.owner.plugin)
        self._admit(record)

    def load_entry_points(self) -> None:
        """Add the plugins of installed distributions that ``ORT_QUANT_PLUGINS`` allows.

        Raises:
            PluginError: One is broken, clashes or is not installed, in strict mode.
        """
        for found in find_entry_points({record.owner.plugin: record.owner for record in self._plugins}):
            record = _Plugin(found.owner, None)
            error = found.problem or self._load(record)
            if error is not None:
                self._fail(record, error)

    def _load(self, record: _Plugin) -> PluginError | None:
        """Load one entry point by name: pluggy would let the first broken one stop all others."""
        try:
            self._pm.load_setuptools_entrypoints(hookspecs.PROJECT, record.owner.plugin)
            record.plugin = self._pm.get_plugin(record.owner.plugin)
            self._admit(record)
        except Exception as error:
            return blame(record.owner, "failed to load", error)
        return None

    def _admit(self, record: _Plugin) -> None:
        """Check a plugin pluggy has accepted, and let it fill the registries that were filled before it came."""
        self._check_marked(record)
        try:
            self._pm.check_pending()
        except pluggy.PluginValidationError as error:
            raise blame(record.owner, "implements a hook that does not exist", error) from error
        self._plugins.append(record)
        for kind in self._collected:
            self._register_into(kind, record)

    def _check_marked(self, record: _Plugin) -> None:
        """A function called like a hook that lacks the marker would be ignored without a word."""
        for name in hookspecs.HOOK_NAMES:
            if callable(getattr(record.plugin, name, None)):
                assert record.plugin is not None
                if self._pm.parse_hookimpl_opts(record.plugin, name) is None:
                    raise PluginError(
                        f"{name} of {record.owner} is not marked as a hook implementation.",
                        hint="Put @hookimpl (from ort_quant_plugin.plugins import hookimpl) above it.",
                        owner=record.owner,
                        hook=name,
                    )

    def _remove(self, record: _Plugin) -> None:
        for registry in self._registries.values():
            registry.withdraw(record.owner)
        if record.plugin is not None and self._pm.is_registered(record.plugin):
            self._pm.unregister(record.plugin)
        self._plugins = [other for other in self._plugins if other is not record]

    def _fail(self, record: _Plugin, error: PluginError) -> None:
        """Take a plugin out but keep it listed; its hooks and entries are gone."""
        if self._strict or record.is_builtin:
            raise error
        position = self._plugins.index(record) if record in self._plugins else len(self._plugins)
        self._remove(record)
        record.error, record.plugin = str(error), None
        self._plugins.insert(position, record)
        _log.warning("%s", error)

    # Registries

    def methods(self) -> Registry[CalibrationMethod]:
        """Calibration methods by name."""
        return self._collect(kinds.METHODS)

    def weight_quantizers(self) -> Registry[WeightQuantizer]:
        """Weight quantizers by name."""
        return self._collect(kinds.WEIGHT_QUANTIZERS)

    def passes(self) -> Registry[GraphPass]:
        """Graph passes by name; :meth:`pipeline` puts them in order."""
        return self._collect(kinds.PASSES)

    def exporters(self) -> Registry[Exporter]:
        """Exporters by name."""
        return self._collect(kinds.EXPORTERS)

    def importers(self) -> Registry[Callable[..., Any]]:
        """Importers of other tools' calibration results by name."""
        return self._collect(kinds.IMPORTERS)

    def targets(self) -> Registry[kinds.Target]:
        """Targets by name."""
        return self._collect(kinds.TARGETS)

    def metrics(self) -> Registry[Callable[[Any, Any], float]]:
        """Metrics by name."""
        return self._collect(kinds.METRICS)

    def gate_metrics(self) -> Registry[GateMetric]:
        """Gate metrics by name."""
        return self._collect(kinds.GATE_METRICS)

    def op_libraries(self) -> Registry[str | os.PathLike[str]]:
        """Paths of further custom-op libraries by name."""
        return self._collect(kinds.OP_LIBRARIES)

    def commands(self) -> Registry[click.Command]:
        """Subcommands of plugins by name; reading them does not import what the other registries need."""
        return self._collect(kinds.COMMANDS)

    def _collect(self, kind: Kind[T]) -> Registry[T]:
        if kind not in self._collected:
            # All but the commands are filled together, so that a plugin that fails is out before a run starts.
            together = [kind] if kind is kinds.COMMANDS else [k for k in kinds.KINDS if k is not kinds.COMMANDS]
            for each in together:
                self._collected.append(each)
                for record in list(self._plugins):
                    if record.error is None and (error := self._try_register(each, record)):
                        self._fail(record, error)
            while problem := self._exporter_problem():
                self._fail(next(r for r in self._plugins if r.owner == problem.details["owner"]), problem)
        return self._registries[kind.name]

    def _try_register(self, kind: Kind[Any], record: _Plugin) -> PluginError | None:
        try:
            self._register_into(kind, record)
        except PluginError as error:
            return error
        return None

    def _register_into(self, kind: Kind[Any], record: _Plugin) -> None:
        if record in self._implementing(kind.hook):
            self._call(kind.hook, record, registry=Registrar(self._registries[kind.name], record.owner))

    def _exporter_problem(self) -> PluginError | None:
        """What is wrong with the first exporter whose target is not registered, or served by another one already."""
        targets = self._registries[kinds.TARGETS.name]
        serving: dict[str, Entry[Any]] = {}
        for entry in self._registries[kinds.EXPORTERS.name].entries():
            target = entry.value.target
            first = serving.setdefault(target, entry)
            if target not in targets:
                what = f"which is not registered; expected one of: {', '.join(targets)}"
            elif first is not entry:
                what = f"which {first.name!r} of {first.owner} serves already; expected one exporter a target"
            else:
                continue
            return PluginError(
                f"The exporter {entry.name!r} of {entry.owner} serves the target {target!r}, {what}.",
                hint="Register a target of its own with ort_quant_register_targets.",
                owner=entry.owner,
                target=target,
            )
        return None

    # Hooks of a run

    def algorithms(self) -> dict[str, AlgorithmSpec]:
        """Every legal ``act_algo`` with its parameters, as the configuration readers take them."""
        return algorithms.activation_algorithms(self.methods())

    def weight_algorithms(self) -> dict[str, AlgorithmSpec]:
        """Every legal ``wts_algo`` that plugins add, as the configuration readers take them."""
        return algorithms.weight_algorithms(self.weight_quantizers())

    def pipeline(self, config: QuantConfig | None = None) -> Pipeline:
        """A fresh pipeline of all registered passes, as changed by ``ort_quant_modify_pipeline``.

        Without constraints, passes of a phase run in the order of registration.

        Raises:
            PluginError: A plugin failed, or the constraints of the passes contradict each other.
        """
        from ort_quant_plugin.passes.pipeline import Pipeline

        pipeline = Pipeline()
        for entry in self.passes().entries():
            constraints: dict[str, Any] = dict(entry.options)
            pipeline.add(entry.value, **constraints)
        for record in self._implementing("ort_quant_modify_pipeline"):
            self._call("ort_quant_modify_pipeline", record, pipeline=pipeline, config=config)
        pipeline.names()
        return pipeline

    def reason_to_skip(self, node: ir.Node, config: QuantConfig) -> str | None:
        """Ask the plugins whether a quantizable layer is quantized.

        Args:
            node: The layer.
            config: The configuration.

        Returns:
            Why it stays float, naming the plugin; ``None`` when it is quantized.

        Raises:
            PluginError: A plugin failed or answered something else than a bool or ``None``.
        """
        for record in self._implementing("ort_quant_should_quantize"):
            answer: object = self._call("ort_quant_should_quantize", record, node=node, config=config)
            if isinstance(answer, bool):
                return None if answer else f"{record.owner} keeps it float"
            if answer is not None:
                raise PluginError(
                    f"ort_quant_should_quantize of {record.owner} answered {answer!r} for node {node.name!r}; "
                    "expected True, False or None.",
                    hint="Report it to the author of the plugin, or leave the plugin out with ORT_QUANT_PLUGINS.",
                    owner=record.owner,
                    node=node.name,
                    value=answer,
                )
        return None

    def report_sections(self, report: QuantizationReport) -> list[ReportSection]:
        """Sections plugins add to the report; one that fails is replaced by a section that says so."""
        return [s for record in self._implementing("ort_quant_report") for s in self._sections_of(record, report)]

    def _sections_of(self, record: _Plugin, report: QuantizationReport) -> list[ReportSection]:
        try:
            answers: list[Any] = self._call("ort_quant_report", record, report=report)
            for answer in answers:
                if not isinstance(answer, ReportSection):
                    raise PluginError(
                        f"ort_quant_report of {record.owner} returned {answer!r}; expected a ReportSection or None.",
                        hint="Report it to the author of the plugin.",
                        owner=record.owner,
                        value=answer,
                    )
        except PluginError as error:
            if self._strict:
                raise
            _log.warning("%s", error)
            return [ReportSection(f"{record.owner} failed", str(error))]
        return answers

    # Listings

    def provenance(self) -> list[Owner]:
        """The third parties' plugins that are active: what produced models are stamped with."""
        return [record.owner for record in self._plugins if record.error is None and not record.is_builtin]

    def describe(self) -> list[dict[str, Any]]:
        """Every plugin, also those that failed, as JSON-ready data; calls all registration hooks.

        Returns:
            One dict a plugin, built-ins first: ``name, distribution, version, builtin, hooks`` (names),
            ``registered`` (names by registry, empty ones left out) and ``error`` (``None`` unless it failed).
        """
        self.methods()
        self.commands()
        return [
            {
                "name": record.owner.plugin,
                "distribution": record.owner.distribution,
                "version": record.owner.version,
                "builtin": record.is_builtin,
                "hooks": [name for name in hookspecs.HOOK_NAMES if record in self._implementing(name)],
                "registered": self._registered_by(record.owner),
                "error": record.error,
            }
            for record in self._plugins
        ]

    def _registered_by(self, owner: Owner) -> dict[str, list[str]]:
        by_kind = {
            name: [entry.name for entry in registry.entries() if entry.owner == owner]
            for name, registry in self._registries.items()
        }
        return {name: names for name, names in by_kind.items() if names}

    # Calling

    def _call(self, hook: str, record: _Plugin, **arguments: object) -> Any:
        """Call one hook of one plugin; what goes wrong in a stranger's comes out as a ``PluginError`` with an owner."""
        others = [plugin for plugin in self._pm.get_plugins() if plugin is not record.plugin]
        try:
            return self._pm.subset_hook_caller(hook, others)(**arguments)
        except Exception as error:
            if record.is_builtin or has_owner(error):
                raise
            raise blame(record.owner, f"failed in {hook}", error) from error

    def _implementing(self, hook: str) -> list[_Plugin]:
        """Plugins that implement ``hook``, in the order pluggy calls them (last registered first, ``tryfirst`` …)."""
        records = {record.owner.plugin: record for record in self._plugins if record.error is None}
        callers = getattr(self._pm.hook, hook).get_hookimpls()
        return [records[impl.plugin_name] for impl in reversed(callers)]


def build_plugin_manager(*, load_entry_points: bool = True, strict: bool = False) -> PluginManager:
    """Make a fresh manager with the built-ins and, unless told otherwise, the plugins of installed distributions.

    Args:
        load_entry_points: Whether installed plugins load; ``ORT_QUANT_PLUGINS`` chooses among them.
        strict: Raise for a broken plugin instead of warning and going on without it.

    Raises:
        PluginError: A plugin is broken, in strict mode.
    """
    manager = PluginManager(strict=strict)
    manager.load_builtins()
    if load_entry_points:
        manager.load_entry_points()
    return manager
