"""The pytest plugin: accuracy gates as tests.

It is loaded by every pytest run of an environment, so importing it costs next to nothing: numpy, onnx and
onnxruntime are imported when the first gate runs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ort_quant_plugin.gates import pytest_hookspecs, pytest_options, pytest_terminal
from ort_quant_plugin.gates.pytest_marker import GATE, MARKER
from ort_quant_plugin.gates.pytest_session import RESULTS, SESSION, GateSession

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import onnxruntime

    from ort_quant_plugin.gates.pytest_support import QuantGate

__all__ = ["quant_data", "quant_gate", "quant_session"]

_MARKER_HELP = (
    f"{MARKER}(*, metric, max_drop=None, min_value=None, max_value=None, baseline=None, model=None, reference=None, "
    "data=None, labels=None, significance=None, name=None, **options): an accuracy gate of a quantized model; the test "
    "must call quant_gate.check()."
)


@pytest.fixture
def quant_gate(request: pytest.FixtureRequest, quant_data: Any) -> QuantGate:
    """The gate that the test's marker describes: quant_gate.check() measures, judges and fails the test."""
    from ort_quant_plugin.gates.pytest_support import QuantGate

    return QuantGate(request.node, quant_data)


@pytest.fixture
def quant_data(request: pytest.FixtureRequest) -> Any:
    """The evaluation data of the gate, batch by batch; override it to feed gates with data of your own."""
    from ort_quant_plugin.gates.pytest_support import QuantData, gate_of

    return QuantData(gate_of(request.node))


@pytest.fixture(scope="session")
def quant_session(pytestconfig: pytest.Config) -> Callable[..., onnxruntime.InferenceSession]:
    """A function that makes a session of a model, custom operators included: make("net_ort_model.onnx", threads=1)."""
    from ort_quant_plugin.gates.pytest_support import make_session

    return partial(make_session, root=pytestconfig.rootpath)


def pytest_addoption(parser: pytest.Parser) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_addoption."""
    pytest_options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_addhooks."""
    pluginmanager.add_hookspecs(pytest_hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_configure."""
    config.addinivalue_line("markers", _MARKER_HELP)
    config.stash[SESSION] = gates = GateSession(config, pytest_options.read_options(config))
    config.pluginmanager.register(_Hooks(gates), "ort_quant_gates")


class _Hooks:
    """What happens during a run; some of these hooks are not told pytest's configuration, so they are methods."""

    def __init__(self, gates: GateSession) -> None:
        self.gates = gates

    def pytest_report_header(self) -> str | None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_report_header."""
        return pytest_terminal.header(self.gates)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_collection_modifyitems.

        Gates are found before other plugins deselect some.
        """
        self.gates.collect(items)
        return (yield)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_deselected."""
        self.gates.deselect(items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_collectreport."""
        if report.skipped:
            self.gates.uncollected(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_runtest_setup."""
        item.stash[RESULTS] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_runtest_call.

        A gate that has judged nothing has not passed, and neither has one whose failure the test has caught.
        """
        outcome = yield
        if GATE in item.stash and not item.stash[RESULTS]:
            pytest.fail(
                f"The gate did not run: {item.nodeid} ended without having judged anything. Call quant_gate.check(), "
                "or quant_gate.judge() with a measurement of your own.",
                pytrace=False,
            )
        self.gates.fail_if_missed(item)
        return outcome

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_runtest_makereport."""
        report = yield
        self.gates.attach(item, report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_runtest_logreport."""
        if not self.gates.is_worker:
            self.gates.receive(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_runtestloop.

        The exit status is pytest's: what is wrong with the gates as a whole counts as failed tests.
        """
        try:
            outcome = yield
        finally:
            if not self.gates.is_worker and not session.config.option.collectonly:
                self.gates.finish()
        if self.gates.usage_errors and not self.gates.is_worker:
            raise pytest.UsageError(*self.gates.usage_errors)
        session.testsfailed += len(self.gates.problems)
        return outcome

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """https://pytest-xdist.readthedocs.io/en/stable/how-to.html: a worker has ended, or has crashed."""
        self.gates.merge(getattr(node, "workeroutput", {}))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_sessionfinish."""
        if self.gates.is_worker:
            self.gates.send(session.config.workeroutput)  # type: ignore[attr-defined]  # of pytest-xdist

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#std-hook-pytest_terminal_summary."""
        pytest_terminal.summarize(self.gates, terminalreporter)
