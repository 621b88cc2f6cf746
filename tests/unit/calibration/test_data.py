"""open_data: every form of data, and every misfit named before ONNX Runtime sees it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import PIL.Image
import pytest
from joblib.externals.loky.backend.reduction import dumps

from ort_quant_plugin.calibration.data import BatchData, CalibrationData, ImagePreprocess, open_data
from ort_quant_plugin.errors import ConfigError, DataError
from ort_quant_plugin.model import TensorSpec

IMAGE = [TensorSpec("x", np.dtype("float32"), ("N", 3, 4, 6))]
FREE = [TensorSpec("x", np.dtype("float32"), ("N", 3, "H", "W"))]
VECTOR = [TensorSpec("x", np.dtype("float32"), (None, 5))]
TWO = [TensorSpec("a", np.dtype("float32"), ("N", 2)), TensorSpec("b", np.dtype("int64"), ("N",))]


def save_image(path, value=0, size=(6, 4), mode="RGB"):
    """``size`` is Pillow's (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, size, value).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(["b.png", "a.jpg", "c.bmp", "d.webp", "sub/e.jpeg"]):
        save_image(tmp_path / "photos" / name, (index, 10, 20))
    (tmp_path / "photos" / "README.txt").write_text("not an image")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"junk")
    return tmp_path / "photos"


def arrays(data):
    return [feed["x"] for feed in data]


# -- images ----------------------------------------------------------------------------------------------------------


def test_folder_of_images_is_sorted_named_and_readable_twice(folder):
    data = open_data(folder, IMAGE, batch_size=2)
    assert isinstance(data, CalibrationData)
    assert data.batch_names == [["a.jpg", "b.png"], ["c.bmp", "d.webp"], ["sub/e.jpeg"]]
    assert len(data) == 3
    first, second = arrays(data), arrays(data)
    assert [a.shape for a in first] == [(2, 3, 4, 6), (2, 3, 4, 6), (1, 3, 4, 6)]
    assert first[0][1, 0, 0, 0] == 0  # b.png was written with red 0 and is lossless
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixels_are_raw_by_default_and_scaled_only_on_request(tmp_path):
    save_image(tmp_path / "d" / "a.png", (10, 20, 30))
    raw = arrays(open_data(tmp_path / "d", IMAGE))[0]
    assert raw.dtype == np.float32
    assert raw[0, :, 0, 0].tolist() == [10, 20, 30]
    scaled = arrays(open_data(tmp_path / "d", IMAGE, preprocess=ImagePreprocess(mean=(10, 10, 10), std=(1, 2, 4))))[0]
    assert scaled[0, :, 0, 0].tolist() == [0, 5, 5]


def test_channel_order_and_layout(tmp_path):
    save_image(tmp_path / "d" / "a.png", (10, 20, 30))
    nhwc = [TensorSpec("x", np.dtype("float32"), (None, 4, 6, 3))]
    data = open_data(tmp_path / "d", nhwc, preprocess=ImagePreprocess(layout="NHWC", channels="BGR"))
    assert arrays(data)[0][0, 0, 0].tolist() == [30, 20, 10]
    gray = [TensorSpec("x", np.dtype("float32"), (None, 1, 4, 6))]
    data = open_data(tmp_path / "d", gray, preprocess=ImagePreprocess(channels="GRAY", mean=(8,), std=(2,)))
    assert arrays(data)[0][0, 0, 0, 0] == (round(0.299 * 10 + 0.587 * 20 + 0.114 * 30) - 8) / 2


def test_resize_short_side_then_centre_crop(tmp_path):
    gradient = np.zeros((8, 16, 3), np.uint8)
    gradient[:, :, 0] = np.arange(16) * 10
    (tmp_path / "d").mkdir()
    PIL.Image.fromarray(gradient).save(tmp_path / "d" / "a.png")
    cropped = arrays(open_data(tmp_path / "d", FREE, preprocess=ImagePreprocess(crop=4)))[0]
    assert cropped.shape == (1, 3, 4, 4)
    assert cropped[0, 0, 0].tolist() == [60, 70, 80, 90]  # columns 6..9 of 16
    short_side = arrays(open_data(tmp_path / "d", FREE, preprocess=ImagePreprocess(resize=4)))[0]
    assert short_side.shape == (1, 3, 4, 8)
    exact = arrays(open_data(tmp_path / "d", FREE, preprocess=ImagePreprocess(resize=(5, 7))))[0]
    assert exact.shape == (1, 3, 5, 7)


def test_palette_and_alpha_images_become_rgb(tmp_path):
    save_image(tmp_path / "d" / "a.png", (1, 2, 3, 128), mode="RGBA")
    assert arrays(open_data(tmp_path / "d", IMAGE))[0][0, :, 0, 0].tolist() == [1, 2, 3]


def test_uint8_input_takes_raw_pixels_and_refuses_scaling(tmp_path):
    save_image(tmp_path / "d" / "a.png", (1, 2, 255))
    spec = [TensorSpec("x", np.dtype("uint8"), (1, 3, 4, 6))]
    assert arrays(open_data(tmp_path / "d", spec))[0].dtype == np.uint8
    with pytest.raises(DataError, match="mean and std: the values would be rounded"):
        arrays(open_data(tmp_path / "d", spec, preprocess=ImagePreprocess(mean=(1,))))


def test_corrupt_image_is_named(folder):
    intact = (folder / "c.bmp").read_bytes()
    for content in (b"no image at all", intact[: len(intact) // 2], b""):
        (folder / "c.bmp").write_bytes(content)
        with pytest.raises(DataError, match=r"c\.bmp cannot be decoded") as caught:
            arrays(open_data(folder, IMAGE))
        assert caught.value.hint
        assert caught.value.details["path"].endswith("c.bmp")


def test_truncated_jpeg_is_named(tmp_path):
    path = save_image(tmp_path / "d" / "a.jpg", (200, 10, 90), size=(64, 64))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"a\.jpg cannot be decoded"):
        arrays(open_data(tmp_path / "d", FREE))


def test_sixteen_bit_image_is_refused_not_clipped(tmp_path):
    save_image(tmp_path / "d" / "a.png", 40000, mode="I;16")
    with pytest.raises(DataError, match="8 bits per channel"):
        arrays(open_data(tmp_path / "d", IMAGE))


def test_image_of_another_size_names_file_dimension_and_cure(folder):
    save_image(folder / "c.bmp", size=(7, 4))
    with pytest.raises(DataError, match=r"c\.bmp has shape \[1, 3, 4, 7\].*\[N, 3, 4, 6\].*dimension 3 is 7") as caught:
        arrays(open_data(folder, IMAGE))
    assert "--resize" in caught.value.hint
    with pytest.raises(DataError, match="in the same batch"):
        arrays(open_data(folder, FREE, batch_size=5))


def test_crop_larger_than_image(folder):
    with pytest.raises(DataError, match=r"4x6 .*crop to 5x5"):
        arrays(open_data(folder, FREE, preprocess=ImagePreprocess(crop=5)))


def test_nhwc_data_for_nchw_model_is_recognised():
    with pytest.raises(DataError) as caught:
        arrays(open_data(np.zeros((1, 4, 6, 3), np.float32), IMAGE))
    assert "looks like NHWC" in caught.value.hint


@pytest.mark.parametrize("files", [[], ["notes.txt"]])
def test_folder_without_data(tmp_path, files):
    (tmp_path / "d").mkdir()
    for name in files:
        (tmp_path / "d" / name).write_text("x")
    with pytest.raises(DataError, match="holds no images"):
        open_data(tmp_path / "d", IMAGE)


def test_image_folder_for_several_inputs_is_refused(folder):
    with pytest.raises(DataError, match="one input, but the model has 2 inputs: 'a', 'b'") as caught:
        open_data(folder, TWO)
    assert ".npz" in caught.value.hint


@pytest.mark.parametrize(
    "bad",
    [
        {"std": (0.0,)},
        {"mean": (1.0, 2.0)},
        {"mean": (float("nan"),)},
        {"resize": 0},
        {"crop": (4, -1)},
        {"layout": "CHWN"},
        {"channels": "YUV"},
    ],
)
def test_bad_preprocessing_is_refused(bad):
    with pytest.raises(ConfigError) as caught:
        ImagePreprocess(**bad)
    assert next(iter(bad)) in caught.value.message


# -- numpy files -----------------------------------------------------------------------------------------------------


def test_npy_is_batched_along_the_first_axis(tmp_path):
    whole = np.arange(35, dtype=np.float32).reshape(7, 5)
    np.save(tmp_path / "x.npy", whole)
    data = open_data(tmp_path / "x.npy", VECTOR, batch_size=3)
    assert data.batch_names[0] == ["x.npy[0]", "x.npy[1]", "x.npy[2]"]
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(arrays(data)), whole)
    assert len(open_data(tmp_path / "x.npy", VECTOR, batch_size=3, limit=2)) == 2
    np.testing.assert_array_equal(
        np.concatenate(arrays(open_data(tmp_path / "x.npy", VECTOR, batch_size=3, limit=2))), whole[:6]
    )


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_files_are_read_one_batch_at_a_time(tmp_path, suffix):
    path = tmp_path / f"big.{suffix}"
    whole = np.zeros((40, 250_000), np.float32)  # 40 MB, 1 MB a sample
    np.save(path, whole) if suffix == "npy" else np.savez(path, x=whole)
    del whole
    data = open_data(path, [TensorSpec("x", np.dtype("float32"), ("N", 250_000))], batch_size=2)
    tracemalloc.start()
    try:
        assert sum(len(feed["x"]) for feed in data) == 40
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_npy_in_fortran_order(tmp_path):
    whole = np.asfortranarray(np.arange(20, dtype=np.float32).reshape(4, 5))
    np.save(tmp_path / "x.npy", whole)
    np.testing.assert_array_equal(np.concatenate(arrays(open_data(tmp_path / "x.npy", VECTOR, batch_size=3))), whole)


def test_float64_becomes_float32_and_big_endian_native(tmp_path):
    for dtype in ("<f8", ">f4"):
        np.save(tmp_path / "x.npy", np.full((1, 5), 0.1, dtype))
        assert arrays(open_data(tmp_path / "x.npy", VECTOR))[0].dtype == np.dtype("float32")
        assert arrays(open_data(tmp_path / "x.npy", VECTOR))[0][0, 0] == np.float32(0.1)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", "bool"])
def test_other_dtypes_are_refused(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.ones((1, 5), dtype))
    with pytest.raises(DataError, match=f"dtype {dtype}, but input 'x' has dtype float32") as caught:
        arrays(open_data(tmp_path / "x.npy", VECTOR))
    assert "float32" in caught.value.hint


def test_static_batch_drops_the_rest_and_says_so(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((7, 5), np.float32))
    static = [TensorSpec("x", np.dtype("float32"), (3, 5))]
    data = open_data(tmp_path / "x.npy", static)
    assert [a.shape for a in arrays(data)] == [(3, 5), (3, 5)]
    assert data.notes == [
        "1 of 7 samples left out: the model runs batches of 3 and the last one is incomplete (x.npy[6])."
    ]
    with pytest.raises(DataError, match="static batch dimension 3"):
        open_data(tmp_path / "x.npy", static, batch_size=2)
    np.save(tmp_path / "x.npy", np.ones((2, 5), np.float32))
    with pytest.raises(DataError, match="holds 2 samples, but the model runs batches of 3"):
        open_data(tmp_path / "x.npy", static)


def test_static_batch_groups_images(folder):
    data = open_data(folder, [TensorSpec("x", np.dtype("float32"), (2, 3, 4, 6))])
    assert [a.shape[0] for a in arrays(data)] == [2, 2]
    assert "sub/e.jpeg" in data.notes[0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 5, 1), np.float32), "rank 3 .*rank 2"),
        (np.ones((2, 4), np.float32), "dimension 1 is 4, expected 5"),
        (np.ones((0, 5), np.float32), "holds no samples"),
        (np.float32(1), "single number"),
        (np.array([[np.nan] * 5], np.float32), "5 NaN or infinite values"),
        (np.array([[1e300, 0, 0, 0, 0]]), "1 NaN or infinite values"),
        (np.array([["a"] * 5]), "expected numbers"),
        (np.array([[None] * 5]), "expected numbers"),
    ],
)
def test_npy_that_does_not_fit(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        arrays(open_data(tmp_path / "x.npy", VECTOR))
    assert caught.value.hint
    assert "x.npy" in caught.value.message


def test_broken_numpy_files(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 5), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-8])
    with pytest.raises(DataError, match=r"ends early: 8 bytes"):
        arrays(open_data(tmp_path / "x.npy", VECTOR, batch_size=2))
    for junk in (b"", b"junk", content[:20]):
        (tmp_path / "x.npy").write_bytes(junk)
        with pytest.raises(DataError, match=r"x\.npy is not a readable \.npy"):
            open_data(tmp_path / "x.npy", VECTOR)
        (tmp_path / "x.npz").write_bytes(junk)
        with pytest.raises(DataError, match=r"x\.npz is not a readable \.npz"):
            open_data(tmp_path / "x.npz", VECTOR)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_feeds_each_input_by_name(tmp_path, save):
    a, b = np.random.default_rng(0).normal(size=(5, 2)), np.arange(5)
    save(tmp_path / "d.npz", b=b, a=a)
    data = open_data(tmp_path / "d.npz", TWO, batch_size=2)
    for _ in range(2):
        feeds = list(data)
        np.testing.assert_array_equal(np.concatenate([feed["a"] for feed in feeds]), a.astype(np.float32))
        np.testing.assert_array_equal(np.concatenate([feed["b"] for feed in feeds]), b)


def test_npz_with_one_unnamed_array_feeds_the_only_input(tmp_path):
    np.savez(tmp_path / "d.npz", np.ones((2, 5), np.float32))
    assert len(open_data(tmp_path / "d.npz", VECTOR)) == 2


def test_npz_with_wrong_names_or_lengths(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.ones((2, 2)), c=np.ones(2))
    with pytest.raises(DataError, match="holds the arrays 'a', 'c', but the model's inputs are 'a', 'b'"):
        open_data(tmp_path / "d.npz", TWO)
    np.savez(tmp_path / "d.npz", a=np.ones((2, 2)), b=np.ones(3, np.int64))
    with pytest.raises(DataError, match="different numbers of samples"):
        open_data(tmp_path / "d.npz", TWO)


def test_npy_for_two_inputs_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2), np.float32))
    with pytest.raises(DataError, match="2 inputs"):
        open_data(tmp_path / "x.npy", TWO)


# -- raw folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for index in range(3):
        np.full((4, 2), index, np.float32).tofile(tmp_path / "a" / f"{index}.bin")
        np.full(4, 10 * index, np.int64).tofile(tmp_path / "b" / f"{index}.bin")
    return tmp_path


def test_raw_folders_one_file_is_one_batch(raw):
    data = open_data(f"{raw}/a/;{raw}/b/", TWO, shapes={"a": (4, 2), "b": (4,)})
    feeds = list(data)
    assert len(data) == len(feeds) == 3
    assert feeds[2]["a"].shape == (4, 2)
    assert feeds[2]["a"][0, 0] == 2
    assert feeds[2]["b"].tolist() == [20] * 4


def test_raw_folders_follow_the_order_of_the_shapes(raw):
    feeds = list(open_data(f"{raw}/b;{raw}/a", TWO, shapes={"b": (4,), "a": (4, 2)}))
    assert feeds[1]["b"].tolist() == [10] * 4


def test_raw_folder_for_a_static_input_needs_no_shape(raw):
    spec = [TensorSpec("x", np.dtype("float32"), (4, 2))]
    assert len(list(open_data(raw / "a", spec))) == 3


@pytest.mark.parametrize(
    ("shapes", "dtypes", "message"),
    [
        (None, None, "needs a full shape"),
        ({"a": (4, 3), "b": (4,)}, None, "has 32 bytes, but .* needs 48"),
        ({"a": (4, 2), "b": (4,)}, {"b": np.dtype("int32")}, "has 32 bytes, but .* needs 16"),
        ({"a": (2, 4), "b": (4,)}, None, "dimension 1 is 4, expected 2"),
        ({"a": (4, 2), "b": (8,)}, {"b": np.dtype("int32")}, "dtype int32, but input 'b' has dtype int64"),
        ({"a": (4, 2), "c": (4,)}, None, "do not fit the model's inputs"),
        ({"a": (0, 2), "b": (4,)}, None, "needs a full shape"),
    ],
)
def test_raw_folders_that_do_not_fit(raw, shapes, dtypes, message):
    with pytest.raises(DataError, match=message) as caught:
        list(open_data(f"{raw}/a;{raw}/b", TWO, shapes=shapes, dtypes=dtypes))
    assert caught.value.hint


def test_raw_folders_missing_empty_or_unequal(raw):
    shapes = {"a": (4, 2), "b": (4,)}
    with pytest.raises(DataError, match="does not exist"):
        open_data(f"{raw}/a;{raw}/missing", TWO, shapes=shapes)
    with pytest.raises(DataError, match="1 data folders"):
        open_data(f"{raw}/a;", TWO, shapes=shapes)
    (raw / "b" / "2.bin").unlink()
    with pytest.raises(DataError, match=r"different numbers of \.bin files"):
        open_data(f"{raw}/a;{raw}/b", TWO, shapes=shapes)
    (raw / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.bin files"):
        open_data(f"{raw}/a;{raw}/empty", TWO, shapes=shapes)


# -- lists -----------------------------------------------------------------------------------------------------------


def test_text_list_of_images_and_samples(folder):
    np.save(folder / "s.npy", np.full((3, 4, 6), 7, np.float32))
    np.save(folder / "t.npy", np.full((1, 3, 4, 6), 8, np.float32))
    (folder / "list.txt").write_text("# calibration\nt.npy\n\n b.png \ns.npy\n")
    data = open_data(folder / "list.txt", IMAGE)
    assert data.batch_names == [["t.npy"], ["b.png"], ["s.npy"]]
    assert [round(float(a[0, 1, 0, 0])) for a in arrays(data)] == [8, 10, 7]


def test_csv_list_with_split(folder):
    (folder / "labels.csv").write_text("file,class_index,split\nb.png,1,validation\na.jpg,0,calibration\n")
    assert open_data(folder / "labels.csv", IMAGE).batch_names == [["b.png"], ["a.jpg"]]
    assert open_data(folder / "labels.csv", IMAGE, split="calibration").batch_names == [["a.jpg"]]
    with pytest.raises(DataError, match="lists no files with split 'test'"):
        open_data(folder / "labels.csv", IMAGE, split="test")
    (folder / "labels.csv").write_text("name\nb.png\n")
    with pytest.raises(DataError, match="no 'file' column"):
        open_data(folder / "labels.csv", IMAGE)
    with pytest.raises(DataError, match=r"needs a \.csv list"):
        open_data(folder, IMAGE, split="calibration")


def test_bad_lists(folder):
    (folder / "list.txt").write_text("gone.jpg\n")
    with pytest.raises(DataError, match=r"gone\.jpg does not exist"):
        list(open_data(folder / "list.txt", IMAGE))
    (folder / "list.txt").write_text("\n# nothing\n")
    with pytest.raises(DataError, match="lists no files"):
        open_data(folder / "list.txt", IMAGE)
    (folder / "list.txt").write_text("README.txt\n")
    with pytest.raises(DataError, match="neither an image"):
        open_data(folder / "list.txt", IMAGE)
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(DataError, match="nor a text list"):
        open_data(folder / "list.txt", IMAGE)


# -- python objects --------------------------------------------------------------------------------------------------

X = np.ones((1, 5), np.float32)


def test_iterables_of_dicts_lists_arrays_and_plain_numbers():
    for items in ([{"x": X}, {"x": X}], [[X], [X]], [(X,), (X,)], [X, X], [[[1.0] * 5], [[1.0] * 5]]):
        data = open_data(items, VECTOR)
        assert len(data) == 2
        for feed in data:
            np.testing.assert_array_equal(feed["x"], X)


def test_generator_is_kept_and_callable_is_run_again():
    assert len([*open_data((X for _ in range(3)), VECTOR), *open_data((X for _ in range(3)), VECTOR)]) == 6
    data = open_data((X for _ in range(3)), VECTOR)
    assert len(list(data)) == len(list(data)) == 3
    calls = []

    def feeds():
        calls.append(1)
        yield from ([X], [X])

    data = open_data(feeds, VECTOR)
    assert len(list(data)) == len(list(data)) == len(data) == 2
    assert len(calls) == 3  # one to count, one per pass


def test_arrays_in_memory_work_like_files():
    assert [a.shape for a in arrays(open_data(np.ones((5, 5), np.float32), VECTOR, batch_size=2))] == [
        (2, 5),
        (2, 5),
        (1, 5),
    ]
    feeds = list(open_data({"b": np.arange(3), "a": np.ones((3, 2))}, TWO))
    assert feeds[2]["b"].tolist() == [2]
    with pytest.raises(DataError, match="holds 'a', but the model's inputs are 'a', 'b'"):
        open_data({"a": np.ones((3, 2))}, TWO)


def test_foreign_calibration_data_is_checked_too():
    class Mine:
        batch_names = [["one"], ["two"]]  # noqa: RUF012

        def __len__(self):
            return 2

        def __iter__(self):
            return iter([{"x": X}, {"x": np.ones((1, 4), np.float32)}])

    data = open_data(Mine(), VECTOR)
    with pytest.raises(DataError, match="two has shape"):
        list(data)
    assert len(list(open_data(Mine(), VECTOR, limit=1))) == 1
    assert open_data(data, VECTOR) is data


def test_module_callable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_feeds_module.py").write_text(
        "import numpy as np\n"
        "def batches():\n    return [{'x': np.ones((2, 5), np.float32)}] * 2\n"
        "def broken():\n    raise RuntimeError('disk on fire')\n"
        "def late():\n    yield np.ones((1, 5), np.float32)\n    raise RuntimeError('disk on fire')\n"
        "def single():\n    return np.ones((2, 5), np.float32)\n"
        "def empty():\n    return []\n"
        "number = 3\n"
    )
    for spec in ("my_feeds_module:batches", "./my_feeds_module.py:batches"):
        assert [a.shape for a in arrays(open_data(spec, VECTOR))] == [(2, 5), (2, 5)]
    for spec, message in {
        "my_feeds_module:gone": "has no 'gone'",
        "my_feeds_module:number": "not a callable",
        "no_such_module_here:f": "cannot be imported: ModuleNotFoundError",
        "my_feeds_module:broken": "failed: RuntimeError: disk on fire",
        "my_feeds_module:late": "failed: RuntimeError: disk on fire",
        "my_feeds_module:single": "returned a ndarray; expected an iterable",
        "my_feeds_module:empty": "gives no batches",
        "nowhere/at/all": "does not exist",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            list(open_data(spec, VECTOR))
        assert caught.value.hint


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"y": X}], "lacks 'x' and has unknown 'y'"),
        ([{}], "lacks 'x'"),
        ([[X, X]], "gives 2 arrays, but the model has 1 input: 'x'"),
        ([X.astype(np.int32)], "dtype int32"),
        ([np.ones((1, 6), np.float32)], "dimension 1 is 6"),
        ([X[0]], "rank 1"),
        ([np.ones((0, 5), np.float32)], "holds no values"),
        ([X * np.inf], "NaN or infinite"),
        (["text"], "expected a numeric array"),
        ([X, [object()]], "batch 1 of list"),
        ([], "gives no batches"),
        (3.5, "type float cannot be read"),
    ],
)
def test_feeds_that_do_not_fit(items, message):
    with pytest.raises(DataError, match=message) as caught:
        list(open_data(items, VECTOR))
    assert caught.value.hint


def test_source_that_shrinks_is_noticed():
    calls = []

    def feeds():
        calls.append(1)
        return iter([X] * (3 - len(calls)))

    data = open_data(feeds, VECTOR)
    assert len(data) == 2
    with pytest.raises(DataError, match="gave 1 batches, but 2"):
        list(data)


def test_limits_and_batch_sizes_below_one():
    with pytest.raises(DataError, match="batch size is 0"):
        open_data(np.ones((2, 5), np.float32), VECTOR, batch_size=0)
    with pytest.raises(DataError, match="number of batches is 0"):
        open_data([X, X], VECTOR, limit=0)


def test_input_of_unknown_rank_takes_any_shape():
    spec = [TensorSpec("x", np.dtype("float32"), None)]
    assert [a.shape for a in arrays(open_data(np.ones((2, 3, 4), np.float32), spec))] == [(1, 3, 4), (1, 3, 4)]


def test_details_are_plain_values():
    with pytest.raises(DataError) as caught:
        list(open_data([X.astype(np.int32)], VECTOR))
    assert json.dumps(caught.value.details)


# -- selections ------------------------------------------------------------------------------------------------------


class Lazy:
    """An iterable of eight batches that tells which it has made."""

    def __init__(self):
        self.made = []

    def __len__(self):
        return 8

    def __iter__(self):
        for index in range(8):
            self.made.append(index)
            yield X * index


@pytest.fixture
def sources(tmp_path):
    """The batches ``X * 0`` … ``X * 7`` from every kind of source, one sample a batch."""
    whole = np.arange(8, dtype=np.float32)[:, np.newaxis] * X
    np.save(tmp_path / "c.npy", whole)
    np.save(tmp_path / "f.npy", np.asfortranarray(whole))
    np.savez(tmp_path / "stored.npz", x=whole)
    np.savez_compressed(tmp_path / "deflated.npz", x=whole)
    for folder in ("samples", "raw"):
        (tmp_path / folder).mkdir()
    for index, row in enumerate(whole):
        np.save(tmp_path / "samples" / f"{index}.npy", row)
        row.tofile(tmp_path / "raw" / f"{index}.bin")
    (tmp_path / "feeds.py").write_text(
        "import numpy as np\ndef batches():\n    return (np.full((1, 5), i, np.float32) for i in range(8))\n"
    )
    files = ["c.npy", "f.npy", "stored.npz", "deflated.npz", "samples", "raw", "feeds.py:batches"]
    shapes = {"raw": {"x": (1, 5)}}
    found = {name: open_data(str(tmp_path / name), VECTOR, shapes=shapes.get(name)) for name in files}
    found["array"] = open_data(whole, VECTOR)
    found["list"] = open_data([row[np.newaxis] for row in whole], VECTOR)
    found["generator"] = open_data((row[np.newaxis] for row in whole), VECTOR)
    found["callable"] = open_data(lambda: (row[np.newaxis] for row in whole), VECTOR)
    found["lazy"] = open_data(Lazy(), VECTOR)
    return found


def first_values(data):
    return [int(array[0, 0]) for array in arrays(data)]


def test_selections_of_every_source(sources):
    for name, data in sources.items():
        assert first_values(data) == list(range(8)), name
        for start, stop in [(0, 1), (3, 6), (7, 8), (2, 2), (0, 8)]:
            part = data.select(start, stop)
            assert isinstance(part, BatchData)
            assert len(part) == stop - start
            assert part.batch_names == data.batch_names[start:stop]
            assert first_values(part) == first_values(part) == list(range(start, stop)), name
        assert first_values(data.select(2, 7).select(1, 4)) == [3, 4, 5]
        assert first_values(data.select(2, 7).head(2)) == [2, 3]
        assert data.select(0, 8) is data
        for wrong in [(-1, 2), (3, 2), (0, 9), (8, 9)]:
            with pytest.raises(DataError, match="data has 8 batches; a selection of") as caught:
                data.select(*wrong)
            assert caught.value.hint


def test_selections_of_batches_of_several_samples(tmp_path):
    whole = np.arange(35, dtype=np.float32).reshape(7, 5)
    np.save(tmp_path / "x.npy", whole)
    np.savez_compressed(tmp_path / "x.npz", x=whole)
    for source in (whole, tmp_path / "x.npy", tmp_path / "x.npz"):
        data = open_data(source, VECTOR, batch_size=3)
        np.testing.assert_array_equal(np.concatenate(arrays(data.select(1, 3))), whole[3:])
        np.testing.assert_array_equal(np.concatenate(arrays(data.select(1, 2))), whole[3:6])


def test_images_of_other_batches_are_not_read(folder):
    data = open_data(folder, IMAGE)
    for name in ("a.jpg", "d.webp", "sub/e.jpeg"):
        (folder / name).write_bytes(b"no image")
    assert len(arrays(data.select(1, 3))) == 2
    with pytest.raises(DataError, match=r"a\.jpg cannot be decoded"):
        arrays(data.select(0, 3))


def test_array_files_are_read_from_the_selection_on(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((8, 5), np.float32))
    data = open_data(tmp_path / "x.npy", VECTOR)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-25])
    assert len(arrays(data.select(2, 6))) == 4
    with pytest.raises(DataError, match="ends early: 5 bytes"):
        arrays(data.select(6, 7))


def test_iterables_are_run_through_up_to_the_end_of_the_selection():
    source = Lazy()
    assert first_values(open_data(source, VECTOR).select(3, 5)) == [3, 4]
    assert source.made == [0, 1, 2, 3, 4]


def test_errors_in_a_selection_tell_the_place_in_the_whole():
    with pytest.raises(DataError, match="batch 3 of list"):
        list(open_data([X, X, X, "text"], VECTOR).select(2, 4))
    lengths = iter([6, 4])
    data = open_data(lambda: iter([X] * next(lengths)), VECTOR)
    with pytest.raises(DataError, match="gave 2 batches from batch 2 on, but 3 at the first look"):
        list(data.select(2, 5))


def test_data_travels_to_another_process(sources, folder, tmp_path, monkeypatch):
    sources["images"] = open_data(folder, IMAGE, batch_size=2, preprocess=ImagePreprocess(mean=(1,)))
    monkeypatch.chdir(tmp_path)
    del sources["lazy"]  # its class is this module's, which the other process cannot import
    (tmp_path / "travelling_feeds.py").write_text(
        "import numpy as np\ndef batches():\n    return [np.full((1, 5), i, np.float32) for i in range(8)]\n"
    )
    sources["module"] = open_data("travelling_feeds:batches", VECTOR)  # found in the working directory alone
    parts = {name: data.select(1, 3) for name, data in sources.items()}
    (tmp_path / "parts.pickle").write_bytes(dumps(parts))
    code = (
        "import pickle, numpy as np\n"
        "parts = pickle.load(open('parts.pickle', 'rb'))\n"
        "found = {name: [feed['x'] for feed in part] for name, part in parts.items()}\n"
        "prints = {name: part.fingerprint for name, part in parts.items()}\n"
        "pickle.dump((found, prints), open('found.pickle', 'wb'))\n"
    )
    subprocess.run([sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code], check=True)
    found, prints = pickle.loads((tmp_path / "found.pickle").read_bytes())
    for name, part in parts.items():
        for one, other in zip(arrays(part), found[name], strict=True):
            np.testing.assert_array_equal(one, other)
        assert prints[name] == part.fingerprint


# -- fingerprints ----------------------------------------------------------------------------------------------------


def test_fingerprints_stay_and_tell_sources_apart(sources):
    known = {name: data.fingerprint for name, data in sources.items()}
    assert [name for name, value in known.items() if value is None] == ["feeds.py:batches", "callable", "lazy"]
    found = [value for value in known.values() if value is not None]
    assert all(int(value, 16) >= 0 and len(value) == 32 for value in found)
    assert len(set(found)) == len(found)
    assert {name: data.fingerprint for name, data in sources.items()} == known


def test_fingerprints_of_selections():
    data = open_data([X * index for index in range(8)], VECTOR)
    whole = data.fingerprint
    assert data.select(0, 8).fingerprint == data.head(9).fingerprint == whole
    parts = [data.select(start, stop).fingerprint for start in range(8) for stop in range(start, 9)]
    assert len(set(parts)) == len(parts)
    assert data.select(2, 7).select(1, 3).fingerprint == data.select(3, 5).fingerprint
    assert data.head(3).fingerprint == data.select(0, 3).fingerprint


def image_fingerprint(folder, inputs=FREE, preprocess=None, **options):
    return open_data(folder, inputs, preprocess=ImagePreprocess(**preprocess or {}), **options).fingerprint


def test_every_change_of_preprocessing_and_layout_changes_the_fingerprint(folder):
    found = [
        image_fingerprint(folder),
        image_fingerprint(folder, batch_size=2),
        image_fingerprint(folder, limit=3),
        image_fingerprint(folder, IMAGE),
        image_fingerprint(folder, [TensorSpec("y", *(getattr(FREE[0], name) for name in ("dtype", "shape")))]),
        image_fingerprint(folder, [TensorSpec("x", np.dtype("uint8"), FREE[0].shape)]),
        *(
            image_fingerprint(folder, preprocess=preprocess)
            for preprocess in (
                {"mean": (1, 0, 0)},
                {"mean": (0, 1, 0)},
                {"std": (2, 1, 1)},
                {"resize": 3},
                {"resize": (3, 3)},
                {"crop": 3},
                {"crop": (3, 4)},
                {"channels": "BGR"},
                {"layout": "NHWC"},
            )
        ),
    ]
    assert len(set(found)) == len(found)
    assert image_fingerprint(folder, preprocess={"mean": (0,), "std": (1, 1, 1)}) == found[0]
    assert image_fingerprint(folder, preprocess={"mean": (np.float32(2),)}) == image_fingerprint(
        folder, preprocess={"mean": (2.0, 2, 2)}
    )


def test_every_change_of_files_changes_the_fingerprint(folder):
    found = [image_fingerprint(folder)]
    stat = (folder / "b.png").stat()
    os.utime(folder / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    found.append(image_fingerprint(folder))
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes() + b" ")
    os.utime(folder / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found.append(image_fingerprint(folder))
    (folder / "b.png").rename(folder / "bb.png")
    found.append(image_fingerprint(folder))
    (folder / "bb.png").unlink()
    found.append(image_fingerprint(folder))
    for order in ("c.bmp\nd.webp", "d.webp\nc.bmp"):
        (folder / "list.txt").write_text(order)
        found.append(image_fingerprint(folder / "list.txt"))
    (folder / "list.txt").write_text("gone.png")
    found.append(image_fingerprint(folder / "list.txt"))
    assert len(set(found)) == len(found)


def test_a_moved_folder_keeps_its_fingerprint(folder):
    before = image_fingerprint(folder)
    assert image_fingerprint(folder.rename(folder.with_name("elsewhere"))) == before


def test_every_change_of_array_files_changes_the_fingerprint(tmp_path):
    (tmp_path / "raw").mkdir()
    content = np.ones((2, 5), np.float32)

    def fingerprints():
        options = {"shapes": {"x": (1, 5)}}
        return [
            open_data(tmp_path / "x.npy", VECTOR).fingerprint,
            open_data(tmp_path / "x.npz", VECTOR).fingerprint,
            open_data(tmp_path / "raw", VECTOR, **options).fingerprint,
        ]

    np.save(tmp_path / "x.npy", content)
    np.savez(tmp_path / "x.npz", x=content)
    content.tofile(tmp_path / "raw" / "0.bin")
    (tmp_path / "raw" / "0.bin").write_bytes(content[0].tobytes())
    before = fingerprints()
    assert fingerprints() == before
    for path in (tmp_path / "x.npy", tmp_path / "x.npz", tmp_path / "raw" / "0.bin"):
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert not set(fingerprints()) & set(before)
    any_rank = [TensorSpec("x", np.dtype("float32"), None)]
    raw = [
        open_data(tmp_path / "raw", any_rank, shapes={"x": shape}, dtypes={"x": np.dtype(dtype)}).fingerprint
        for dtype, shape in (("float32", (1, 5)), ("int32", (1, 5)), ("float32", (5, 1)))
    ]
    assert len(set(raw)) == 3


def test_every_change_of_values_changes_the_fingerprint():
    base = np.arange(20, dtype=np.float32).reshape(4, 5)
    changed = base.copy()
    changed[3, 4] = np.nextafter(changed[3, 4], np.float32(0))
    arrays_ = [base, changed, base[::-1], base.astype(np.float64), base[:3]]
    found = [open_data(array, VECTOR).fingerprint for array in arrays_]
    found += [open_data([row[np.newaxis] for row in array], VECTOR).fingerprint for array in arrays_]
    found += [open_data(base, VECTOR, batch_size=2).fingerprint, open_data([base], VECTOR).fingerprint]
    assert len(set(found)) == len(found)
    any_rank = [TensorSpec("x", np.dtype("float32"), None)]
    same_bytes = [np.zeros((2, 2, 3), np.float32), np.zeros((2, 3, 2), np.float32), np.zeros((2, 2, 3), np.int32)]
    assert len({open_data(array, any_rank).fingerprint for array in same_bytes}) == 3
    assert open_data(np.asfortranarray(base), VECTOR).fingerprint == found[0]
    assert open_data({"x": base}, VECTOR).fingerprint == found[0]
    two = [{"a": np.ones((1, 2), np.float32), "b": np.arange(1)}]
    assert open_data(two, TWO).fingerprint == open_data([dict(reversed(two[0].items()))], TWO).fingerprint


def test_a_source_with_a_broken_feed_has_no_fingerprint():
    with pytest.raises(DataError, match="batch 1 of list"):
        _ = open_data([X, "text"], VECTOR).fingerprint
