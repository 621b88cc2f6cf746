"""The order in which passes run, and the checks between them.

Order inside a phase is the order of insertion, bent by ``after``/``before``: a pass is preceded by those it waits for
and otherwise runs where it was inserted, so a pipeline without constraints runs as it was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ModelError, OrtQuantError, PluginError
from ort_quant_plugin.passes import builtin
from ort_quant_plugin.passes.base import GraphPass, PassContext, PassReport, Phase
from ort_quant_plugin.passes.contract import Signature, faults, undefined_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import onnx_ir as ir

__all__ = ["BUILTIN_PASSES", "Pipeline", "default_pipeline", "prepare"]

BUILTIN_PASSES: tuple[GraphPass, ...] = builtin.PASSES
"""The built-in passes in the order in which they run."""

_MAX_ROUNDS = 20


@dataclass(frozen=True)
class _Entry:
    graph_pass: GraphPass
    after: frozenset[str]
    before: frozenset[str]


class Pipeline:
    """Passes, ordered by phase and by ``after``/``before`` inside a phase."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._removed: set[str] = set()

    def add(self, graph_pass: GraphPass, *, after: Iterable[str] = (), before: Iterable[str] = ()) -> None:
        """Append a pass.

        Args:
            graph_pass: The pass.
            after: Names of passes that must have run before it.
            before: Names of passes that must run after it.

        Raises:
            PluginError: Not a pass, or the name is taken.
        """
        if not isinstance(graph_pass, GraphPass) or not isinstance(graph_pass.phase, Phase):
            raise PluginError(
                f"{graph_pass!r} is not a graph pass: it needs name, phase and a call.",
                hint="See the GraphPass protocol in ort_quant_plugin.passes.",
            )
        if graph_pass.name in self._entries:
            raise PluginError(
                f"The pipeline has a pass named {graph_pass.name!r} already.",
                hint="Choose another name, or use Pipeline.replace().",
                graph_pass=graph_pass.name,
            )
        self._entries[graph_pass.name] = _Entry(graph_pass, frozenset(after), frozenset(before))

    def remove(self, name: str) -> None:
        """Take a pass out; constraints of others that name it are then void.

        Raises:
            PluginError: There is no such pass.
        """
        self._require(name)
        del self._entries[name]
        self._removed.add(name)

    def replace(self, name: str, graph_pass: GraphPass) -> None:
        """Put another pass in the place of one, with its constraints; the new one keeps its own name.

        Raises:
            PluginError: There is no such pass, or the new name is taken.
        """
        self._require(name)
        entries, self._entries = self._entries, {}
        for old, entry in entries.items():
            if old == name:
                self.add(graph_pass, after=entry.after, before=entry.before)
            else:
                self.add(entry.graph_pass, after=entry.after, before=entry.before)
        if graph_pass.name != name:
            self._removed.add(name)

    def names(self) -> list[str]:
        """Names of the passes in the order in which they run.

        Raises:
            PluginError: Constraints name unknown passes, contradict the phases or form a cycle (printed).
        """
        return [p.name for phase in Phase for p in self._ordered(phase)]

    def run(self, model: ir.Model, context: PassContext | None = None) -> list[PassReport]:
        """Run all passes on ``model``, in place.

        After every pass the contract is checked: what held before must still hold (see :func:`.contract.faults`).

        Returns:
            One report a pass, in order of the first run.

        Raises:
            ModelError: The model itself is broken (reads values nothing produces) or a pass refused it.
            PluginError: A pass failed or broke the contract, or the phase FUSE does not come to rest.
        """
        context = context or PassContext()
        ordered = {phase: self._ordered(phase) for phase in Phase}
        missing = undefined_values(model)
        if missing:
            raise ModelError(f"The model is broken: {missing[0]}.", hint="Export it again.", values=missing)
        checker = _Checker(model)
        reports = [self._run_one(p, model, context, checker) for p in ordered[Phase.PREPARE]]
        return reports + self._run_until_stable(ordered[Phase.FUSE], model, context, checker)

    def _require(self, name: str) -> None:
        if name not in self._entries:
            raise PluginError(
                f"The pipeline has no pass named {name!r}.",
                hint=f"It has: {', '.join(self._entries)}.",
                graph_pass=name,
            )

    def _ordered(self, phase: Phase) -> list[GraphPass]:
        names = [name for name, entry in self._entries.items() if entry.graph_pass.phase is phase]
        waits = {name: set(self._resolve(name, self._entries[name].after, phase)) for name in names}
        for name in names:
            for successor in self._resolve(name, self._entries[name].before, phase, before=True):
                waits[successor].add(name)
        order: list[str] = []
        for name in names:
            _place(name, waits, order, ())
        return [self._entries[name].graph_pass for name in order]

    def _resolve(self, name: str, others: Collection[str], phase: Phase, *, before: bool = False) -> list[str]:
        """The constraint partners inside the same phase; partners in another phase must agree with the phase order."""
        phases = list(Phase)
        same = []
        for other in sorted(others):
            if other not in self._entries:
                if other in self._removed:
                    continue
                word = "before" if before else "after"
                raise PluginError(
                    f"Pass {name!r} wants to run {word} {other!r}, which the pipeline does not have.",
                    hint=f"It has: {', '.join(self._entries)}.",
                    graph_pass=name,
                )
            other_phase = self._entries[other].graph_pass.phase
            if other_phase is phase:
                same.append(other)
            elif (phases.index(other_phase) < phases.index(phase)) == before:
                word = "before" if before else "after"
                raise PluginError(
                    f"Pass {name!r} of phase {phase.name} cannot run {word} {other!r} of phase {other_phase.name}.",
                    hint="Phases run in the order " + ", ".join(p.name for p in Phase) + ".",
                    graph_pass=name,
                )
        return same

    def _run_one(self, graph_pass: GraphPass, model: ir.Model, context: PassContext, checker: _Checker) -> PassReport:
        try:
            report = graph_pass(model, context)
        except OrtQuantError:
            raise
        except Exception as error:
            raise PluginError(
                f"Pass {graph_pass.name!r} failed: {type(error).__name__}: {error}.",
                hint="Remove it from the pipeline, or report the fault to its author.",
                graph_pass=graph_pass.name,
            ) from error
        checker.check(graph_pass.name)
        return report

    def _run_until_stable(
        self, passes: list[GraphPass], model: ir.Model, context: PassContext, checker: _Checker
    ) -> list[PassReport]:
        merged = {p.name: PassReport(p.name) for p in passes}
        for _ in range(_MAX_ROUNDS):
            reports = [self._run_one(p, model, context, checker) for p in passes]
            for report in reports:
                merged[report.name].changes += report.changes
                merged[report.name].declined = report.declined
            if not any(report.changes for report in reports):
                return list(merged.values())
        restless = [report.name for report in reports if report.changes]
        raise PluginError(
            f"The passes {restless} still change the model after {_MAX_ROUNDS} rounds.",
            hint="A pass of phase FUSE must report no change when there is nothing left to do.",
            passes=restless,
        )


class _Checker:
    """Compares the state after a pass with the state before it, and blames the pass for what broke."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._signature = Signature.of(model)
        self._known = set(faults(model, self._signature))

    def check(self, name: str) -> None:
        found = faults(self._model, self._signature)
        broken = [text for rule, text in found.items() if rule not in self._known]
        if broken:
            raise PluginError(
                f"Pass {name!r} broke the model: {broken[0]}.",
                hint="Remove it from the pipeline, or report the fault to its author.",
                graph_pass=name,
                faults=broken,
            )
        self._known = set(found)


def _place(name: str, waits: dict[str, set[str]], order: list[str], path: tuple[str, ...]) -> None:
    """Append ``name`` to ``order``, its missing predecessors first; ``path`` leads from a pass to what it waits for."""
    if name in order:
        return
    if name in path:
        cycle = " → ".join(reversed([*path[path.index(name) :], name]))
        raise PluginError(f"The order of the passes is a cycle: {cycle}.", hint="Drop one after/before constraint.")
    for predecessor in sorted(waits[name], key=list(waits).index):
        _place(predecessor, waits, order, (*path, name))
    order.append(name)


def default_pipeline() -> Pipeline:
    """A fresh pipeline of the built-in passes; each runs after the one before it in :data:`BUILTIN_PASSES`."""
    pipeline = Pipeline()
    previous: dict[Phase, str] = {}
    for graph_pass in BUILTIN_PASSES:
        after = [previous[graph_pass.phase]] if graph_pass.phase in previous else []
        pipeline.add(graph_pass, after=after)
        previous[graph_pass.phase] = graph_pass.name
    return pipeline


def prepare(
    model: ir.Model,
    *,
    do_fusion: bool = True,
    skip_fusion_layers: Iterable[str] = (),
    pipeline: Pipeline | None = None,
) -> list[PassReport]:
    """Bring a float model into the form that calibration and export work on, in place.

    Args:
        model: The user's model; nothing of it needs to be named, sorted or folded.
        do_fusion: Whether BatchNormalization and constant Mul/Add are folded into layers.
        skip_fusion_layers: Names of nodes that stay as they are.
        pipeline: Other passes than :func:`default_pipeline`'s.

    Returns:
        One report a pass.

    Raises:
        UnsupportedError: The model is quantized already, or its opset is not supported.
        ModelError: The model is structurally broken.
        PluginError: A pass failed or broke the model.
    """
    context = PassContext(do_fusion, frozenset(skip_fusion_layers))
    return (pipeline or default_pipeline()).run(model, context)
