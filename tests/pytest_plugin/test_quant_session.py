"""The fixture ``quant_session``: sessions that run all models of this package."""

from __future__ import annotations


def test_every_form_of_a_model_runs(digits_project, pytester, run, digits):
    pytester.makepyfile(
        """
        import numpy as np
        import pytest

        def test_forms(quant_session):
            x = np.load("x.npy")
            forms = ("int8_ort_model.onnx", "int8_fake_quant_model.onnx", "int8_deploy_model.onnx")
            outputs = [quant_session(form).run(None, {"image": x})[0] for form in forms]
            assert np.array_equal(outputs[0], outputs[1]) and np.array_equal(outputs[0], outputs[2])
            assert outputs[0].shape == (60, 10)

        def test_threads(quant_session):
            assert quant_session("float.onnx").get_session_options().intra_op_num_threads == 1
            assert quant_session("float.onnx", threads=2).get_session_options().intra_op_num_threads == 2

        def test_missing(quant_session):
            from ort_quant_plugin.errors import ModelError

            with pytest.raises(ModelError, match="does not exist"):
                quant_session("missing.onnx")
        """
    )
    run().assert_outcomes(passed=3)
