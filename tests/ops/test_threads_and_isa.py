"""Results do not depend on threads or instruction sets."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.errors import OpLibraryError
from ort_quant_plugin.ops.library import session_options

F32 = np.float32

CHAIN = """g (float[N,C,H,W] x, uint64[C] d) => (float[N,C,H,W] y, float[1] s, float[1] h) {{
    q = amct.customop.AscendQuant <scale: float = 30.7, offset: float = -5.0> (x)
    y = amct.customop.AscendDequant (q, d)
    s = amct.customop.IFMR <record_file_path: string = "{path}", object_layer0: string = "a"> (x)
    h = amct.customop.HFMG <record_file_path: string = "{path}", object_layer0: string = "b"> (x) }}"""


@pytest.fixture(scope="module")
def feeds():
    random = np.random.default_rng(0)
    scales = random.uniform(1e-3, 1e-1, 17).astype(F32).view(np.uint32).astype(np.uint64)
    return {"x": random.normal(0, 2, (2, 17, 101, 103)).astype(F32), "d": scales}


def outputs_and_record(make_session, record_file, feeds, **options):
    path = record_file("a", "b")
    outputs = make_session(CHAIN.format(path=path), **options).run(None, feeds)
    return [o.tobytes() for o in outputs], path.read_text()


def test_threads(make_session, record_file, feeds):
    one = outputs_and_record(make_session, record_file, feeds, intra_op_num_threads=1)
    for threads in (2, 3):
        assert outputs_and_record(make_session, record_file, feeds, intra_op_num_threads=threads) == one


def test_instruction_sets(make_session, record_file, feeds, isa, monkeypatch):
    forced = outputs_and_record(make_session, record_file, feeds)
    monkeypatch.delenv("ORT_QUANT_ISA")
    assert outputs_and_record(make_session, record_file, feeds) == forced


def test_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("ORT_QUANT_ISA", "sse9")
    with pytest.raises(OpLibraryError, match=r'ORT_QUANT_ISA is "sse9", expected one of: scalar') as caught:
        session_options()
    assert "ORT_QUANT_ISA" in caught.value.hint
