"""Sessions of tiny models with the custom ops, on whatever ONNX Runtime is installed (1.17 and newer)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops.library import onnxruntime_module, session_options

HEADER = (
    '<ir_version: 8, opset_import: ["": 17, "amct.customop": 1, "amct.customop.extfp16": 1,'
    ' "amct.customop.extint8": 1, "ort_quant": 1]>\n'
)


@pytest.fixture(scope="session")
def make_session():
    """Session of a graph in ONNX text (without header); keyword arguments are session options,
    `config` its configuration entries.

    `rename` replaces layer names in string attributes (names that ONNX text cannot hold).
    `defaults` are values of graph inputs that need not be fed.
    """

    def _make(
        graph: str, rename: dict[str, str] | None = None, defaults: dict[str, np.ndarray] | None = None, **options
    ):
        ort = onnxruntime_module()
        model = ir.from_onnx_text(HEADER + graph)
        for value in model.graph.inputs:
            if value.name in (defaults or {}):
                value.const_value = ir.tensor(defaults[value.name], name=value.name)
                model.graph.initializers.add(value)
        for node in model.graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.STRING and attribute.value in (rename or {}):
                    node.attributes[name] = ir.AttrString(name, rename[attribute.value])
        for node in model.graph:  # errors name the node; older ONNX text has no syntax for node names
            node.name = f"node_{node.outputs[0].name}"
            if node.outputs[0].name == "none":  # ONNX text has no nodes without outputs either
                node.resize_outputs(0)
        options.setdefault("log_severity_level", 4)
        config = options.pop("config", {})
        chosen = session_options(**options)
        for key, entry in config.items():
            chosen.add_session_config_entry(key, entry)
        proto = ir.to_proto(model).SerializeToString()
        return ort.InferenceSession(proto, chosen, providers=["CPUExecutionProvider"])

    return _make


@pytest.fixture(scope="session")
def run_op(make_session):
    """Outputs of one run of a graph."""

    def _run(graph: str, feeds: dict[str, np.ndarray], **options) -> list[np.ndarray]:
        return make_session(graph, **options).run(None, feeds)

    return _run


@pytest.fixture(scope="session")
def to_dtype():
    """Cast that overflows to infinity without a warning."""

    def _cast(values, dtype):
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(dtype)

    return _cast


@pytest.fixture
def record_file(tmp_path):
    """A record file with entries for the given layers, as quantize_model leaves it before calibration."""

    def _write(*layers: str, name: str = "record.txt"):
        path = tmp_path / name
        path.write_text("".join(record_entry(layer) for layer in layers), encoding="utf-8")
        return path

    return _write


@pytest.fixture(scope="session")
def entry():
    """Text of one record: key and the lines of its value."""
    return record_entry


def record_entry(key: str, *lines: str) -> str:
    fields = "".join(f"    {line}\n" for line in (*lines, "scale_w: 0.5", "offset_w: 0"))
    return f'record {{\n  key: "{key}"\n  value {{\n{fields}  }}\n}}\n'
