"""The package's front: public names, cheap import, logging variables, a missing runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ort_quant_plugin as oq
from ort_quant_plugin import errors

ROOT = Path(find_spec("ort_quant_plugin").origin).parents[1]


def python(code, cwd, **environment):
    env = dict(os.environ, PYTHONPATH=str(ROOT), **environment)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120
    )


def test_every_public_name_is_there():
    for name in oq.__all__:
        assert getattr(oq, name) is not None
    assert set(oq.__all__) <= set(dir(oq))


def test_functions_stay_functions_when_their_modules_are_loaded(tmp_path):
    """A submodule of the same name would take the place of the function."""
    code = (
        "import pkgutil, importlib, ort_quant_plugin as oq\n"
        "for m in pkgutil.walk_packages(oq.__path__, 'ort_quant_plugin.'):\n"
        "    if m.name.rpartition('.')[2] not in {'__main__', 'libort_quant_ops', 'libort_quant_deploy'}:\n"
        "        importlib.import_module(m.name)\n"
        "assert all(callable(getattr(oq, n)) for n in oq.__all__ if n != '__version__'), oq.__all__"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="quantise"):
        oq.quantise  # noqa: B018


def test_import_is_cheap(tmp_path):
    heavy = ("onnx", "onnx_ir", "onnxruntime", "numpy", "google.protobuf", "PIL", "rich", "click")
    done = python(f"import sys, ort_quant_plugin; print([m for m in {heavy!r} if m in sys.modules])", tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_writes_nothing(tmp_path):
    assert python("import ort_quant_plugin", tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", "ERROR"])
def test_log_file(tmp_path, level):
    code = "import ort_quant_plugin.logs as l; l.LOGGER.error('text'); l.LOGGER.debug('detail')"
    assert python(code, tmp_path, AMCT_LOG_FILE_LEVEL=level).returncode == 0
    text = (tmp_path / "amct_log" / "amct_onnx.log").read_text()
    assert " - ERROR - [AMCT]:[" in text
    assert "text" in text
    assert ("detail" in text) == (level == "debug")


def test_console_log(tmp_path):
    done = python("import ort_quant_plugin.logs as l; l.LOGGER.info('text')", tmp_path, AMCT_LOG_LEVEL="INFO")
    assert "INFO - [AMCT]:[" in done.stderr


@pytest.mark.parametrize("variable", ["AMCT_LOG_LEVEL", "AMCT_LOG_FILE_LEVEL"])
def test_an_unknown_level_is_a_value_error_at_import(tmp_path, variable):
    code = "try:\n  import ort_quant_plugin\nexcept ValueError as e: print(e)"
    done = python(code, tmp_path, **{variable: "LOUD"})
    assert f"{variable} is 'LOUD'" in done.stdout


def test_without_a_runtime_the_choices_are_named(tmp_path):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import ort_quant_plugin as oq\n"
        "try:\n  oq.session_options()\n"
        "except ImportError as e: print(type(e).__name__, e)"
    )
    done = python(code, tmp_path)
    assert done.stdout.startswith("RuntimeMissingError"), done.stderr
    for choice in ("ort-quant-plugin[cpu]", "onnxruntime-gpu", "onnxruntime-openvino"):
        assert choice in done.stdout


def test_every_error_has_the_base_and_a_builtin():
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.OrtQuantError)
        if name not in {"OrtQuantError"}:
            assert issubclass(error, (ValueError, RuntimeError, TypeError, OSError, ImportError))


def test_an_error_carries_its_parts():
    error = errors.ModelError("What.", hint="Cure.", node="n")
    assert (error.message, error.hint, error.details) == ("What.", "Cure.", {"node": "n"})
    assert str(error) == "What. Hint: Cure."
