"""File names, targets, and all-or-nothing writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ort_quant_plugin.errors import ConfigError, OutputError
from ort_quant_plugin.export import BUILTIN_EXPORTERS, ExportOptions, output_paths, write_targets
from ort_quant_plugin.export.write import select_exporters, split_save_path

EXPORTERS = {e.name: e for e in BUILTIN_EXPORTERS}


@pytest.mark.parametrize(
    ("save_path", "folder", "prefix"),
    [("out/resnet", "out", "resnet"), ("out/", "out", ""), ("", ".", ""), ("net", ".", "net"), ("/a/b", "/a", "b")],
)
def test_split_save_path(save_path, folder, prefix):
    assert split_save_path(save_path) == (Path(folder), prefix)


def test_file_names_are_amct_s():
    paths = output_paths("out/net", BUILTIN_EXPORTERS)
    assert [p.name for p in paths.values()] == [
        "net_fake_quant_model.onnx",
        "net_deploy_model.onnx",
        "net_ort_model.onnx",
        "net_qdq_model.onnx",
        "net_quant.json",
    ]
    paths = output_paths("out/", BUILTIN_EXPORTERS)
    assert [p.name for p in paths.values()] == [
        "fake_quant_model.onnx",
        "deploy_model.onnx",
        "ort_model.onnx",
        "qdq_model.onnx",
        "_quant.json",
    ]


def test_a_prefix_of_242_characters_is_refused():
    split_save_path("x" * 241)
    with pytest.raises(OutputError, match="242 characters; expected at most 241"):
        split_save_path("x" * 242)


@pytest.mark.parametrize("targets", [(), ("qdq", "qdq"), ("gpu",)])
def test_bad_targets_are_refused_with_the_list(targets):
    with pytest.raises(ConfigError, match="fake_quant, ascend, ort, qdq"):
        select_exporters(EXPORTERS, targets)


def test_targets_in_the_order_asked_for():
    assert [e.target for e in select_exporters(EXPORTERS, ["qdq", "ascend"])] == ["qdq", "ascend"]


class _Failing:
    name = target = "failing"
    summary = "fails"
    file_suffix = "failing.onnx"

    def export(self, model, plan, options):
        raise ConfigError("on purpose")


def test_one_failing_target_writes_nothing(small_calibrated, tmp_path):
    model, plan = small_calibrated.plan()
    exporters = [EXPORTERS["fake_quant"], _Failing()]
    with pytest.raises(ConfigError, match="on purpose"):
        write_targets(model, plan, tmp_path / "out" / "net", exporters, ExportOptions())
    assert not (tmp_path / "out").exists()


def test_the_source_model_is_not_changed(small_calibrated):
    model, plan = small_calibrated.plan()
    before = str(model)
    write_targets(model, plan, small_calibrated.folder / "net", BUILTIN_EXPORTERS, ExportOptions())
    assert str(model) == before


def test_extra_files_are_written_with_the_models(small_calibrated):
    model, plan = small_calibrated.plan()
    folder = small_calibrated.folder / "with"
    write_targets(model, plan, folder / "net", BUILTIN_EXPORTERS, ExportOptions(), extra_files={"net_record.txt": "r"})
    assert (folder / "net_record.txt").read_text() == "r"
    assert len(list(folder.iterdir())) == 6
