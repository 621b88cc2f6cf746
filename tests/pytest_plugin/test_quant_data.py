"""The fixture ``quant_data``: what the marker or the ini file names, or what somebody puts in its place."""

from __future__ import annotations

TEST = """
import numpy as np
import pytest

@pytest.mark.quant_gate(metric="agreement", model="int8_ort_model.onnx", reference="float.onnx", min_value=0.5{more})
def test_it(quant_gate, quant_data):
    {body}
    assert quant_gate.check().measurement.samples == {samples}
"""


def test_batches_of_what_the_marker_names(digits_project, pytester, run):
    body = (
        "feeds = list(quant_data); assert [feed['image'].shape[0] for feed in feeds] == [16, 16];"
        "assert np.array_equal(np.concatenate([feed['image'] for feed in feeds]), np.load('x.npy')[:32]);"
        "assert list(quant_data), 'it can be read again'"
    )
    pytester.makepyfile(TEST.format(more=", data='x.npy', batch_size=16, max_samples=32", body=body, samples=32))
    run().assert_outcomes(passed=1)


def test_ini_names_data_and_labels(digits_project, pytester, run):
    digits_project("quant_data = x.npy", "quant_labels = y.npy")
    body = "assert quant_data.spec.endswith('x.npy') and quant_data.labels.endswith('y.npy')"
    pytester.makepyfile(TEST.format(more=", batch_size=16", body=body, samples=60).replace("agreement", "top1"))
    run().assert_outcomes(passed=1)


def test_an_overriding_fixture_feeds_the_gate(digits_project, pytester, run):
    fixture = "@pytest.fixture\ndef quant_data():\n    return [np.load('x.npy')[:3], np.load('x.npy')[3:5]]\n"
    text = TEST.format(more=", data='nowhere.npy'", body="...", samples=5)
    pytester.makepyfile(text.replace("@pytest.mark", f"{fixture}\n@pytest.mark", 1))
    run().assert_outcomes(passed=1)


def test_no_data(digits_project, pytester, run):
    pytester.makepyfile(TEST.format(more="", body="for feed in quant_data: pass", samples=0))
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*gate 'test_it' names no data, so quant_data is empty.*"])
