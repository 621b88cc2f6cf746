import io

import numpy as np
import pytest
from PIL import Image

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.served import ServedModel, ServedTensor, make_feeds, split_model_name

pytest.importorskip("tritonclient")


def model(*inputs, max_batch=8):
    return ServedModel("net", "", tuple(ServedTensor(*entry) for entry in inputs), (), (), max_batch)


def test_names():
    assert split_model_name("net") == ("net", "")
    assert split_model_name("net:3") == ("net", "3")
    assert split_model_name("a:b") == ("a:b", "")
    assert ServedModel("net", "3", (), (), (), 0).label == "net:3"


def test_feeds_fit_and_can_be_made_again():
    served = model(("x", "FP32", (None, 3, 4)), ("ids", "INT8", (None, 2)), ("mask", "BOOL", (None, 5)))
    first, second = make_feeds(served, batch=4, count=2)
    assert {name: (array.dtype.name, array.shape) for name, array in first.items()} == {
        "x": ("float32", (4, 3, 4)),
        "ids": ("int8", (4, 2)),
        "mask": ("bool", (4, 5)),
    }
    again, _ = make_feeds(served, batch=4, count=2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x"], second["x"])
    assert not np.array_equal(first["x"], make_feeds(served, batch=4, seed=1)[0]["x"])


def test_text_gets_pictures():
    (feed,) = make_feeds(model(("image", "BYTES", (None, 1))), batch=2)
    assert feed["image"].shape == (2, 1)
    assert Image.open(io.BytesIO(feed["image"][1, 0])).size == (256, 256)


def test_free_axes():
    served = model(("x", "FP32", (None, 3, None, None)))
    with pytest.raises(TritonError, match=r"'x' of 'net' has the free axes \[\?, 3, \?, \?\]"):
        make_feeds(served)
    for shape in [(3, 32, 16), (1, 3, 32, 16)]:
        (feed,) = make_feeds(served, batch=2, shapes={"x": shape})
        assert feed["x"].shape == (2, 3, 32, 16)
    with pytest.raises(TritonError, match="free axes"):
        make_feeds(served, shapes={"x": (32,)})


def test_batches():
    with pytest.raises(TritonError, match="takes batches of at most 8, not 9"):
        make_feeds(model(("x", "FP32", (None, 3))), batch=9)
    fixed = model(("x", "FP32", (1, 3)), max_batch=0)
    assert make_feeds(fixed)[0]["x"].shape == (1, 3)
    with pytest.raises(TritonError, match=r"takes no batches: the shape of its input 'x' is \[1, 3\]"):
        make_feeds(fixed, batch=2)
    free = model(("x", "FP32", (None, 3)), max_batch=0)
    assert make_feeds(free, batch=100)[0]["x"].shape == (100, 3)
