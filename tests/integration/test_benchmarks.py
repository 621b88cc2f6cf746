"""The benchmark runs as its README says, and feeds the other tools what ours is fed."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ort_quant_plugin as oq
from ort_quant_plugin.calibration.images import read_image
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.model import TensorSpec

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(run_benchmark):
    """Run one short round; gives the finished process and the JSON document."""
    return partial(run_benchmark, "calibration.py")


def test_digits(benchmark, tmp_path):
    page = tmp_path / "table.md"
    done, report = benchmark("--tools", "plain,ours,ort-minmax", "--flat", 120, "--markdown", page)
    assert done.returncode == 0, done.stderr
    rows = {row["tool"]: row for row in report["rows"]}
    assert list(rows) == ["plain", "ours", "ort-minmax"]
    for row in rows.values():
        assert row["problem"] is None
        assert row["label"] in done.stdout
        assert f"| {row['label']} |" in page.read_text(encoding="utf-8")
        (run,) = row["runs"]
        assert 0 < run["result"]["seconds"] < run["process_seconds"]
        assert run["peak_mb"] > row["median"]["libraries_mb"] > 10
    # What the demo's README says of the float model; int8 may cost it a point.
    assert rows["plain"]["scores"]["float"]["top1"] == pytest.approx(0.993, abs=1e-3)
    judged = [*rows["ours"]["scores"].items(), *rows["ort-minmax"]["scores"].items()]
    assert [kind for kind, _ in judged] == ["qdq", "fake_quant", "qdq"]
    for _, score in judged:
        assert score["agreement"] > 0.98
        assert score["top1"] > 0.98
        assert 25 < score["sqnr_db"] < 60
    assert rows["ours"]["runs"][0]["result"]["parts"]["calibration"] < rows["ours"]["median"]["total"]
    assert rows["ours"]["ratios"]["total_to_minmax"] == pytest.approx(
        rows["ours"]["median"]["total"] / rows["ort-minmax"]["median"]["total"]
    )
    assert (report["flatness"]["few"], report["flatness"]["many"]) == (100, 120)
    assert report["settings"]["evaluation"] == 450


@pytest.mark.slow
def test_a_tool_that_cannot_be_installed_is_left_out_with_the_reason(benchmark, tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    for i, image in enumerate(load_digits().calibration[:5]):
        np.save(folder / f"{i}.npy", image)
    arguments = ["--model", demo_model_path(), "--images", folder, "--count", 3, "--cache", tmp_path / "cache"]
    done, report = benchmark(*arguments, "--tools", "nncf,plain", PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    nncf, plain = report["rows"]
    assert nncf["problem"].startswith("skipped: ")
    assert "nncf==3.4.0" in nncf["problem"]
    assert nncf["problem"] in done.stdout
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(plain["runs"]) == 1
    assert (report["settings"]["calibration"], report["settings"]["evaluation"]) == (3, 2)
    assert plain["scores"]["float"]["top1"] is None


def test_a_tool_that_fails_is_told_apart(benchmark, tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((1, 7), np.float32))
    (tmp_path / "list.csv").write_text("file,split\n0.npy,calibration\n")
    done, report = benchmark("--model", demo_model_path(), "--images", tmp_path / "list.csv", "--tools", "plain")
    assert done.returncode == 1
    assert report["rows"][0]["problem"].startswith("failed: ")
    assert report["rows"][0]["runs"] == []


@pytest.mark.parametrize(("resize", "crop"), [(None, 32), (40, 32), (40, None)])
def test_photos_are_decoded_as_ours_are(monkeypatch, tmp_path, resize, crop):
    monkeypatch.syspath_prepend(BENCHMARKS)
    jobs, photos = importlib.import_module("jobs"), importlib.import_module("photos")
    noise = np.random.default_rng(0).integers(0, 256, (57, 75, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg")
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    job = jobs.Job("", "", "", "", mean, std, resize, crop, "")
    preprocess = oq.ImagePreprocess(mean=mean, std=std, resize=resize, crop=crop)
    expected = read_image(tmp_path / "noise.jpg", preprocess, TensorSpec("x", np.dtype(np.float32), None))
    np.testing.assert_array_equal(photos.load(tmp_path / "noise.jpg", job), expected[None])
