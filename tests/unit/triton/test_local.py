"""A model here must run as its configuration tells the server, or its answers are no measure of the server's."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from ort_quant_plugin.demo import demo_model_path
from ort_quant_plugin.errors import ModelError, OpLibraryError
from ort_quant_plugin.triton.config import config_messages
from ort_quant_plugin.triton.local import LocalModel

pytest.importorskip("tritonclient")

LEVELS = {-1: "ORT_ENABLE_BASIC", 0: "ORT_ENABLE_ALL", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}


def config(**parameters):
    message = config_messages().ModelConfig(name="net")
    for name, value in parameters.items():
        message.parameters[name].string_value = value
    return message


@pytest.fixture
def scaled(build, tmp_path):
    """A convolution and a factor: optimization multiplies the weights with it, which rounds otherwise."""
    rng = np.random.default_rng(0)
    model = build(
        """<ir_version: 8, opset_import: ["": 17]> net (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y)
        { [conv] c = Conv(x, w)  [scale] y = Mul(c, factor) }""",
        w=rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        factor=np.float32(1.1),
    )
    ir.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx", {"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("level", LEVELS)
def test_graph_level(scaled, level):
    path, feeds = scaled
    message = config(intra_op_thread_count="1")
    message.optimization.graph.level = level
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    (expected,) = ort.InferenceSession(str(path), options).run(None, feeds)
    assert np.array_equal(LocalModel(path, message).run(feeds, ["y"])["y"], expected)
    message.optimization.graph.level = 0 if level == 2 else 2
    assert not np.array_equal(LocalModel(path, message).run(feeds, ["y"])["y"], expected)


@pytest.mark.parametrize("name", ["/opt/lib/libort_quant_ops.so", "libort_quant_deploy.so"])
def test_our_libraries_are_those_of_this_package(name):
    message = config()
    message.model_operations.op_library_filename.append(name)
    assert LocalModel(demo_model_path(), message).run({"image": np.zeros((2, 1, 8, 8), np.float32)}, ["logits"])


def test_libraries_of_others():
    message = config()
    message.model_operations.op_library_filename.append("/opt/lib/libother.so")
    with pytest.raises(OpLibraryError, match="libother"):
        LocalModel(demo_model_path(), message)
    with pytest.raises(OpLibraryError, match="libother"):
        LocalModel(demo_model_path(), config(op_library_filename="libort_quant_ops.so:libother.so"))


def test_what_does_not_run(tmp_path):
    with pytest.raises(ModelError, match="ONNX Runtime cannot load"):
        LocalModel(tmp_path / "none.onnx", config())
    with pytest.raises(ModelError, match="does not run here"):
        LocalModel(demo_model_path(), config()).run({"image": np.zeros((2, 8), np.float32)}, ["logits"])
