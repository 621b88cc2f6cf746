"""A calibrated model to export: any graph, calibrated on random data by the real operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.export import BUILTIN_EXPORTERS, ExportOptions, build_plan, write_targets
from ort_quant_plugin.model import read_model, write_model
from ort_quant_plugin.passes.insert_observers import remove_observers
from ort_quant_plugin.record import Record


@dataclass
class Calibrated:
    """A float model, its calibration model and its filled record, and the feeds it was calibrated on."""

    folder: Path
    float_model: Path
    feeds: dict[str, np.ndarray]

    @property
    def modified(self) -> Path:
        return self.folder / "modified.onnx"

    @property
    def record(self) -> Path:
        return self.folder / "record.txt"

    def plan(self):
        model = read_model(self.modified)
        remove_observers(model)
        return model, build_plan(model, Record.read(self.record))

    def export(self, target, **options):
        """Export one target: (path, model, what the exporter said)."""
        model, plan = self.plan()
        exporters = [e for e in BUILTIN_EXPORTERS if e.target == target]
        paths, results = write_targets(model, plan, self.folder / "net", exporters, ExportOptions(**options))
        return paths[target], ir.load(paths[target]), results[target]


@pytest.fixture
def calibrate(tmp_path, run_model):
    """Calibrate a model (ir.Model or path) on feeds."""

    def _calibrate(model, feeds, *, config=None, observe_outputs=True, **choices):
        path = model
        if isinstance(model, ir.Model):
            path = tmp_path / "float.onnx"
            write_model(model, path)
        made = Calibrated(tmp_path, Path(path), feeds)
        config_file = str(tmp_path / "config.json")
        oq.create_quant_config(config_file, str(path), config_defination=config, **choices)
        oq.quantize_model(config_file, str(path), str(made.modified), str(made.record), observe_outputs=observe_outputs)
        run_model(made.modified, feeds)
        return made

    return _calibrate


@pytest.fixture
def names():
    """Operators by node name."""
    return lambda model: {str(node.name): node.op_type for node in model.graph}


HEADER = '<ir_version: 8, opset_import: ["": 13]>\n'
SMALL = (
    HEADER
    + """net (float[N,3,9,9] x) => (float[N,5] y) {
    [conv1] c1 = Conv <pads=[1,1,1,1], strides=[2,2]>(x, w1, b1)
    [relu] r1 = Clip(c1, zero, six)
    [conv2] c2 = Conv <pads=[1,0,2,1]>(r1, w2)
    [conv3] c3 = Conv <group=4>(r1, w3)
    [pool] p = GlobalAveragePool(c2)
    [pool3] p3 = GlobalAveragePool(c3)
    [sum] s = Add(p, p3)
    [flat] f = Flatten(s)
    [fc] y = Gemm(f, w4, b4)
}"""
)


@pytest.fixture(scope="session")
def small(build):
    """Conv with stride and Clip, Conv with asymmetric padding, depthwise Conv on the same tensor, Gemm."""
    rng = np.random.default_rng(3)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return lambda: build(
        SMALL,
        w1=normal(4, 3, 3, 3),
        b1=normal(4),
        zero=np.float32(0),
        six=np.float32(6),
        w2=normal(4, 4, 3, 3),
        w3=normal(4, 1, 1, 1),
        w4=normal(4, 5),
        b4=normal(5),
    )


@pytest.fixture
def small_calibrated(small, calibrate):
    x = np.random.default_rng(4).normal(size=(8, 3, 9, 9)).astype(np.float32)
    return calibrate(small(), {"x": x})
