"""The table of Triton releases."""

from __future__ import annotations

import pytest

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.triton.releases import API_NEEDED, OLDEST, RELEASES, release


@pytest.mark.parametrize(
    ("name", "onnxruntime", "api", "ubuntu", "glibc", "python"),
    [
        ("24.02", "1.16.3", 16, "22.04", "2.35", "3.10"),
        ("24.03", "1.17.2", 17, "22.04", "2.35", "3.10"),
        ("24.10", "1.19.2", 19, "22.04", "2.35", "3.10"),
        ("24.11", "1.19.2", 19, "24.04", "2.39", "3.12"),
        ("26.06", "1.24.4", 24, "24.04", "2.39", "3.12"),
    ],
)
def test_rows(name, onnxruntime, api, ubuntu, glibc, python):
    found = release(name)
    assert (found.onnxruntime, found.api, found.ubuntu) == (onnxruntime, api, ubuntu)
    assert (found.glibc, found.python) == (glibc, python)
    assert found.image == f"nvcr.io/nvidia/tritonserver:{name}-py3"


def test_oldest_first_and_without_gaps():
    names = list(RELEASES)
    assert names == sorted(names)
    months = [int(name[:2]) * 12 + int(name[3:]) for name in names]
    assert months == list(range(months[0], months[-1] + 1))


def test_the_oldest_is_the_first_that_has_the_api():
    assert next(r.name for r in RELEASES.values() if r.supported) == OLDEST
    assert all(r.supported == (r.api >= API_NEEDED) for r in RELEASES.values())


def test_models_grow_with_the_releases():
    limits = [(r.opset, r.ir_version) for r in RELEASES.values()]
    assert limits == sorted(limits)
    assert (release("24.03").opset, release("24.03").ir_version) == (20, 9)
    assert (release("26.06").opset, release("26.06").ir_version) == (25, 13)


def test_unknown():
    with pytest.raises(ConfigError, match=r"'24\.13' is not known; the table holds 23\.09 to"):
        release("24.13")
