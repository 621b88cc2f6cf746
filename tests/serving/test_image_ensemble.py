"""What stands around a classifier, on a real server: pictures become what calibration made of them, scores labels."""

from __future__ import annotations

import io
import subprocess

import numpy as np
import PIL.Image
import pytest

from ort_quant_plugin.calibration.images import ImagePreprocess, read_image
from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.model import TensorSpec, write_model
from ort_quant_plugin.triton.ensemble import Classifier, write_ensemble
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model as write_served

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
PICTURES = {
    "color": (
        f"{HEAD} g (float[N,3,24,32] x) => (float[N,2304] y) {{ y = Flatten(x) }}",
        ImagePreprocess(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize=40, crop=(24, 32)),
    ),
    "blue_first": (
        f"{HEAD} g (float16[N,24,24,3] x) => (float16[N,1728] y) {{ y = Flatten(x) }}",
        ImagePreprocess(mean=(127.0,), std=(128.0,), resize=(24, 24), layout="NHWC", channels="BGR"),
    ),
    "as_is": (
        f"{HEAD} g (float[N,1,H,20] x) => (float[N,M] y) {{ y = Flatten(x) }}",
        ImagePreprocess(channels="GRAY"),
    ),
    "bytes": (
        f"{HEAD} g (uint8[1,1,30,20] x) => (uint8[1,600] y) {{ y = Flatten(x) }}",
        ImagePreprocess(resize=(30, 20), channels="GRAY"),
    ),
}
pytestmark = pytest.mark.slow
SCORES = ImagePreprocess(mean=(0.0,), std=(1.0,), channels="GRAY", crop=(1, 5))
NAMES = ("cat", "dog", "Löwe", "fish", "bird")


@pytest.fixture(scope="module")
def client(build, serve, connect, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    repository = folder / "models"
    for name, (text, preprocess) in PICTURES.items():
        write_model(build(text), folder / f"{name}.onnx")
        write_ensemble(folder / f"{name}.onnx", repository, RepositoryOptions(name), Classifier(preprocess))
    (folder / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    write_model(build(f"{HEAD} g (float[N,1,1,5] x) => (float[N,5] y) {{ y = Flatten(x) }}"), folder / "scores.onnx")
    classifier = Classifier(SCORES, folder / "names.txt", top_k=3, softmax=True)
    write_ensemble(folder / "scores.onnx", repository, RepositoryOptions("scores"), classifier)
    text = '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]> g (string[N,1] s) => (string[N,1] t, int64[N] n) {'
    text += ' m = ai.onnx.ml.LabelEncoder<keys_strings=["ä","b"], values_int64s=[7,8], default_int64=0>(s)'
    text += " t = Identity(s) axes = Constant<value_ints=[1]>() n = Squeeze(m, axes) }"
    write_model(build(text), folder / "words.onnx")
    write_served(folder / "words.onnx", repository, RepositoryOptions("words", backend="python"))
    return connect(serve(repository, arguments=["--disable-auto-complete-config"]))  # halves the start


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of several kinds and sizes."""
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("pictures")
    files = []
    for index, (height, width, mode, suffix) in enumerate(
        [
            (50, 70, "RGB", "png"),
            (90, 41, "RGB", "jpg"),
            (64, 64, "L", "png"),
            (45, 80, "RGBA", "png"),
            (77, 60, "P", "bmp"),
        ]
    ):
        pixels = PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)
        files.append(folder / f"{index}.{suffix}")
        pixels.save(files[-1])
    return files


def encoded(files):
    return np.array([file.read_bytes() for file in files], dtype=object).reshape(-1, 1)


@pytest.mark.parametrize(("name", "dtype"), [("color", np.float32), ("blue_first", np.float16)])
def test_pictures_are_read_as_for_calibration(client, pictures, name, dtype):
    preprocess = PICTURES[name][1]
    spec = TensorSpec("x", np.dtype(dtype), None)
    (tensor,) = client.infer(f"{name}_preprocess", {"image": encoded(pictures)}).values()
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor, np.stack([read_image(file, preprocess, spec) for file in pictures]))


def test_one_picture_for_a_model_without_batches(client, pictures):
    spec = TensorSpec("x", np.dtype(np.uint8), None)
    for file in pictures[:2]:
        (tensor,) = client.infer("bytes_preprocess", {"image": encoded([file])[0]}).values()
        np.testing.assert_array_equal(tensor, read_image(file, PICTURES["bytes"][1], spec)[np.newaxis])
        answer = client.infer("bytes_ensemble", {"image": encoded([file])[0]})
        assert answer["class_id"].shape == (1, 1)
        assert answer["class_id"][0, 0] == tensor.reshape(-1).argmax()


def picture(mode, size):
    stream = io.BytesIO()
    PIL.Image.new(mode, size).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("model", "data", "reason"),
    [
        ("color", b"", "image 1 cannot be decoded"),
        ("color", b"no picture", "image 1 cannot be decoded"),
        ("color", picture("RGB", (90, 90))[:-30], "image 1 cannot be decoded"),
        ("color", picture("I;16", (40, 40)), "it has mode I;16"),
        ("color", picture("1", (8000, 7000)), "it is 7000x8000; at most 50000000 pixels"),
        ("scores", picture("L", (3, 3)), "image 1 is 3x3, smaller than the crop 1x5"),
    ],
    ids=["empty", "no picture", "truncated", "16 bits", "huge", "small"],
)
def test_bad_pictures(client, model, data, reason):
    with pytest.raises(TritonError, match=reason) as caught:
        client.infer(f"{model}_preprocess", {"image": np.array([[data]], dtype=object)})
    assert "Traceback" not in str(caught.value)


def test_pictures_that_do_not_fit(client):
    def ask(*sizes):
        data = np.array([[picture("L", size)] for size in sizes], dtype=object)
        return client.infer("as_is_preprocess", {"image": data})["x"].shape

    assert ask((20, 7), (20, 7)) == (2, 1, 7, 20)
    with pytest.raises(TritonError, match=r"image 2 gives a tensor \[1, 7, 21\]; the model takes \[1, -1, 20\]"):
        ask((20, 7), (21, 7))
    with pytest.raises(TritonError, match="give different shapes"):
        ask((20, 7), (20, 8))


def test_labels_and_probabilities(client):
    scores = np.array([[0, 3, 3, 1, -2], [5, 1, 2, 3, 4]], np.float32)
    answer = client.infer("scores_postprocess", {"y": scores})
    np.testing.assert_array_equal(answer["class_id"], [[1, 2, 3], [0, 4, 3]])  # of equals the first, as argmax
    labels = [[label.decode() for label in row] for row in answer["label"]]
    assert labels == [["dog", "Löwe", "fish"], ["cat", "bird", "fish"]]
    powers = np.exp(scores.astype(np.float64))
    expected = np.sort(powers / powers.sum(axis=1, keepdims=True), axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(answer["score"], expected, rtol=1e-6)


def test_scores_that_are_no_numbers_win_nothing(client):
    with pytest.raises(TritonError, match="hold NaN: no class wins"):
        client.infer("scores_postprocess", {"y": np.array([[0, np.nan, 0, 0, 0]], np.float32)})
    answer = client.infer("scores_postprocess", {"y": np.array([[0, -np.inf, 0, 0, -np.inf]], np.float32)})
    np.testing.assert_array_equal(answer["class_id"], [[0, 2, 3]])


def test_the_whole(client):
    pixels = np.array([[3, 9, 200, 1, 2]], np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "png")
    answer = client.infer("scores_ensemble", {"image": np.array([[stream.getvalue()]] * 2, dtype=object)})
    np.testing.assert_array_equal(answer["class_id"], [[2, 1, 0]] * 2)
    assert answer["label"][0, 0].decode() == "Löwe"


def test_words_pass_the_python_backend(client):
    words = np.array([["ä"], ["b"], ["c"]], dtype=object)
    answer = client.infer("words", {"s": words})
    assert [[word.decode() for word in row] for row in answer["t"]] == words.tolist()
    np.testing.assert_array_equal(answer["n"], [[7], [8], [0]])


def test_a_numpy_the_server_cannot_read_is_refused(triton_environment, serve, connect, digits, tmp_path):
    """With numpy 2 this server's python backend takes zeros in and gives nothing out, without a word."""
    pip = [triton_environment.folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
    new = tmp_path / "numpy2"
    done = subprocess.run(
        [*pip, "--only-binary", ":all:", "--target", new, "numpy==2.2.6"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"pip cannot install numpy 2: {done.stderr.strip().splitlines()[-1:]}")
    write_served(digits.models["float"], tmp_path / "models", RepositoryOptions("net", backend="python", warmup=False))
    script = tmp_path / "models/net/1/model.py"
    text = script.read_text()
    assert "import json\n" in text
    script.write_text(text.replace("import json\n", f"import sys\nsys.path.insert(0, {str(new)!r})\nimport json\n"))
    (state,) = connect(serve(tmp_path / "models", tolerate_failures=True)).index()
    assert "this server cannot exchange tensors with numpy 2.2.6; install numpy<2 for it" in state.reason
