"""Offline checks: right repositories pass, and each thing that can be wrong is found and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ort_quant_plugin.calibration.images import ImagePreprocess
from ort_quant_plugin.errors import ConfigError, TritonError
from ort_quant_plugin.ops.library import get_library_path, onnxruntime_module
from ort_quant_plugin.triton.elf import read_library
from ort_quant_plugin.triton.ensemble import Classifier, write_ensemble
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model
from ort_quant_plugin.triton.validate import validate_repository

OPS = "libort_quant_ops.so"
HEAD = '<ir_version: 8, opset_import: ["": 17]>'


@pytest.fixture
def repository(digits, tmp_path):
    """A repository with one model; ``edit(old, new)`` changes its config.pbtxt, ``errors(…)`` checks it."""

    class Repository:
        folder = tmp_path / "models"
        model = folder / "net"

        def write(self, form, **options):
            write_model(digits[form], self.folder, RepositoryOptions("net", **options))
            return self

        def edit(self, old, new):
            path = self.model / "config.pbtxt"
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))
            return self

        def add(self, text):
            path = self.model / "config.pbtxt"
            path.write_text(path.read_text() + text)
            return self

        def of(self, level, **options):
            return [
                f"{f.subject}: {f.message}" for f in validate_repository(self.folder, **options) if f.level == level
            ]

        def errors(self, **options):
            return self.of("error", **options)

        def warnings(self, **options):
            return self.of("warning", **options)

    return Repository()


def only(found, text):
    assert len(found) == 1, found
    assert text in found[0]


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
@pytest.mark.parametrize("form", ["float", "fake_quant", "deploy", "ort", "qdq"])
def test_what_is_written_is_right(repository, form, backend):
    repository.write(form, backend=backend)
    assert repository.errors() == repository.warnings() == []
    assert repository.errors(release="24.03") == []
    assert "version 1: Runs in ONNX Runtime on this machine, batch 2." in repository.of("ok")


def test_calibration_model(repository):
    repository.write("calibration")
    assert repository.errors() == repository.warnings() == []
    assert not [text for text in repository.of("ok") if "Runs in" in text]  # it would observe the zeros


def test_two_versions(repository):
    repository.write("float").write("ort", version=2)
    assert repository.errors() == []
    assert [text for text in repository.of("ok") if text.startswith("version 2")]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("max_batch_size: 8", "max_batch: 8", 'no field named "max_batch"'),
        ('name: "net"', 'name: "other"', "The name is 'other', but the folder is called 'net'"),
        ('backend: "onnxruntime"', "", "Neither backend nor platform"),
        (
            "data_type: TYPE_FP32\n  dims: [10]",
            "data_type: TYPE_FP16\n  dims: [10]",
            "'logits' is TYPE_FP16, but the model has TYPE_FP32",
        ),
        ("dims: [10]", "dims: [11]", "Output 'logits' is [-1, 11] (with the batch axis), but the model has [-1, 10]"),
        ("dims: [10]", "dims: [-1]", "Output 'logits' is [-1, -1]"),
        ('name: "logits"', 'name: "scores"', "The model has no output 'scores'; it has logits"),
        ("version_policy {\n  all {\n  }\n}", "version_policy { specific { versions: [1, 4] } }", "asks for version 4"),
    ],
)
def test_configuration(repository, old, new, text):
    only(repository.write("float", warmup=False).edit(old, new).errors(), text)


def test_input_names(repository):
    repository.write("float", warmup=False).edit('name: "image"', 'name: "picture"')
    no, missing = repository.errors()
    assert "The model has no input 'picture'; it has image" in no
    assert "Input 'image' of the model is not configured" in missing


def test_input_sizes(repository):
    only(
        repository.write("float", warmup=False).edit("dims: [1, 8, 8]", "dims: [1, 8, 9]").errors(),
        "Input 'image' is [-1, 1, 8, 9]",
    )


def test_output_sizes_that_the_model_leaves_free(repository, save):
    """The backend takes a free axis of an input in any size, of an output as free only."""
    model = save(f"{HEAD} g (float[N,K] x) => (float[N,K] y) {{ y = Relu(x) }}")
    write_model(model, repository.folder, RepositoryOptions("net", shapes={"x": (5,)}))
    assert repository.errors() == []
    repository.edit('name: "x"\n  data_type: TYPE_FP32\n  dims: [-1]', 'name: "x"\n  data_type: TYPE_FP32\n  dims: [5]')
    assert repository.errors() == []
    repository.edit('name: "y"\n  data_type: TYPE_FP32\n  dims: [-1]', 'name: "y"\n  data_type: TYPE_FP32\n  dims: [5]')
    only(repository.errors(), "Output 'y' is [-1, 5] (with the batch axis), but the model has [-1, -1]")


def test_an_optional_input_needs_batches_switched_off(repository):
    repository.write("float", warmup=False).edit('name: "image"', 'name: "image"\n  optional: true')
    only(repository.errors(), "which the backend takes only where max_batch_size is 0")


def test_batches_of_a_fixed_model(repository, save):
    model = save(f"{HEAD} g (float[1,3] x) => (float[1,3] y) {{ y = Relu(x) }}")
    write_model(model, repository.folder, RepositoryOptions("net", warmup=False))
    repository.edit("backend:", "max_batch_size: 4\nbackend:").edit("dims: [1, 3]", "dims: [3]")
    assert len([text for text in repository.errors() if "first axis" in text and "[1, 3]" in text]) == 2


def test_answers_that_do_not_follow_the_batch(repository, save):
    """Both first axes are free, but the model doubles the rows: joined requests would get each other's."""
    model = save(f"{HEAD} g (float[N,3] x) => (float[M,3] y) {{ y = Concat<axis=0>(x, x) }}")
    write_model(model, repository.folder, RepositoryOptions("net"))
    only(repository.errors(), "comes out as [4, 3], where the configuration says [2, 3] for a batch of 2")
    assert repository.errors(run=False) == []


def test_files(repository, tmp_path):
    repository.write("float")
    model = repository.model / "1/model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:1000])
    only(repository.errors(), "is not a readable ONNX model")
    model.unlink()
    only(repository.errors(), "model.onnx does not exist")
    (repository.model / "1").rmdir()
    (repository.model / "v1").mkdir()
    only(repository.errors(), "There is no version folder")
    only(repository.warnings(), "The server ignores v1")


def test_no_configuration(repository):
    repository.write("float")
    (repository.model / "config.pbtxt").unlink()
    only(repository.warnings(), "There is no config.pbtxt")


@pytest.mark.parametrize(
    ("path", "level", "text"),
    [
        ("/nowhere/libort_quant_ops.so", "warning", "is not on this machine"),
        ("./libort_quant_ops.so", "warning", "relative to the server's working directory"),
        ("1/libort_quant_ops.so", "warning", "relative to the server's working directory"),
        ("libort_quant_ops.so", "warning", "only in a folder of its LD_LIBRARY_PATH"),
        ("$$TRITON_MODEL_DIRECTORY/libort_quant_ops.so", "error", "does not replace such names"),
        ("/mnt/models/net/libort_quant_ops.so", "ok", "if the server sees it as /mnt/models"),
    ],
)
def test_library_paths(repository, monkeypatch, path, level, text):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    repository.write("ort").edit(str(repository.model.resolve() / OPS), path)
    only([line for line in repository.of(level) if line.startswith("library") and "loads in" not in line], text)
    assert (repository.errors() == []) == (level != "error")


def test_bare_names_are_looked_for_as_the_loader_does(repository, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{Path(get_library_path()).parent}")
    repository.write("ort", ops_path="bare")
    if Path(get_library_path()).name == OPS:
        assert repository.warnings() == []
        assert [text for text in repository.of("ok") if "loads in Triton" in text]


@pytest.mark.parametrize("rule", ["/opt/lib", "bare"])
def test_ours_are_checked_in_this_packages_copy_where_only_the_server_has_them(repository, monkeypatch, rule):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    repository.write("deploy", ops_path=rule)
    assert len(repository.warnings()) == 2
    right = repository.of("ok", release="24.03")
    for name in (OPS, "libort_quant_deploy.so"):
        assert [text for text in right if f"This package's {name} loads in Triton 24.03" in text]
    assert [text for text in right if "Runs in ONNX Runtime" in text]
    assert len(repository.errors(release="24.02")) == 2


def test_library_that_is_gone(repository):
    repository.write("ort")
    (repository.model / OPS).unlink()
    only(repository.errors(), f"{OPS} does not exist")


def test_library_that_is_not_named(repository):
    path = repository.model.resolve() / OPS
    repository.write("ort").edit(f'model_operations {{\n  op_library_filename: "{path}"\n}}', "")
    only(repository.errors(), f"Version 1 needs {OPS}, which the configuration does not name")


def test_library_of_the_python_backend(repository):
    repository.write("ort", backend="python")
    (repository.model / OPS).unlink()
    only(repository.errors(), "is not beside config.pbtxt")
    (repository.model / "1/model.py").write_text("def broken(:\n")
    assert [text for text in repository.errors() if "is not Python" in text]


def test_library_of_another_kind(repository):
    repository.write("ort")
    (repository.model / OPS).write_text("no library")
    only(repository.errors(), "is no shared library")
    (other,) = (Path(onnxruntime_module().__file__).parent / "capi").glob("libonnxruntime_providers_shared.so")
    shutil.copyfile(other, repository.model / OPS)
    only(repository.errors(), "has no function RegisterCustomOps")


@pytest.mark.parametrize("other", ["{path}", "/opt/" + OPS])
def test_library_named_twice(repository, other):
    path = repository.model.resolve() / OPS
    again = f'op_library_filename: "{other.format(path=path)}"'
    repository.write("ort").edit(f'"{path}"', f'"{path}" {again}')
    only(repository.errors(), "named twice")


def test_release(repository):
    repository.write("ort")
    only(repository.errors(release="24.02"), "needs API 17 of ONNX Runtime; 1.16.3 gives 16")
    assert [text for text in repository.of("ok", release="26.06") if "loads in Triton 26.06" in text]
    assert [text for text in repository.of("ok") if "loads in Triton 24.03 and newer" in text]
    with pytest.raises(ConfigError, match=r"'30\.01' is not known"):
        repository.errors(release="30.01")


@pytest.mark.parametrize(("kind", "newest"), [("GLIBC", "2.39"), ("GLIBCXX", "3.4.33")])
def test_libraries_of_a_newer_system(repository, kind, newest):
    """A library that was built elsewhere: its needs are raised in its table of names."""
    repository.write("ort")
    library = repository.model / OPS
    facts = read_library(library)
    needed = facts.glibc if kind == "GLIBC" else facts.glibcxx
    raised = f"{needed[:-2]}99"
    old, new = (f"\0{kind}_{version}\0".encode() for version in (needed, raised))
    library.write_bytes(library.read_bytes().replace(old, new))
    only(repository.errors(release="26.06"), f"needs {kind}_{raised}; Ubuntu 24.04 has {newest}")
    assert [text for text in repository.warnings(run=False) if "loads in no Triton image" in text]


@pytest.mark.parametrize(
    ("head", "release", "text"),
    [
        ('ir_version: 8, opset_import: ["": 21]', "24.03", "operator set 21; ONNX Runtime 1.17.2 of Triton 24.03"),
        ('ir_version: 8, opset_import: ["": 21]', "24.05", None),
        ('ir_version: 10, opset_import: ["": 17]', "24.04", "IR version 10; ONNX Runtime 1.17.3"),
    ],
)
def test_models_that_are_too_new_for_a_release(repository, save, head, release, text):
    model = save(f"<{head}> g (float[N,3] x) => (float[N,3] y) {{ y = Relu(x) }}")
    write_model(model, repository.folder, RepositoryOptions("net"))
    assert repository.errors() == []
    found = repository.errors(release=release)
    assert [text in line for line in found] == [True] if text else found == []


def test_advice(repository):
    repository.write("fake_quant").edit("level: 2", "level: 1")
    only(repository.warnings(), "may differ from the int8 model in the last bit")
    repository.edit("count: 1", "count: 4").edit("intra_op_thread_count", "inter_op_thread_count")
    assert "Each of 4 instances starts one thread a core." in repository.warnings()[0]


def test_missing_instance_group(repository):
    repository.write("float").edit("instance_group {\n  count: 1\n  kind: KIND_CPU\n}", "")
    only(repository.warnings(), "No instance_group")


def test_calibration_models_must_not_see_anything_but_data(repository):
    repository.write("calibration").edit("count: 1", "count: 2").add("response_cache { enable: true }\n")
    keep, cached = repository.errors()
    assert "2 instances keep statistics apart" in keep
    assert "cached answers are not observed" in cached


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (
            'batch_size: 9 inputs { key: "image" value { data_type: TYPE_FP32 dims: [1,8,8] zero_data: true } }',
            "9 is over the limit 8",
        ),
        (
            'batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [1,8,8] zero_data: true } }',
            "Input 'x' is not configured",
        ),
        ("batch_size: 1", "Input 'image' is missing"),
        (
            'batch_size: 1 inputs { key: "image" value { data_type: TYPE_FP32 dims: [1,-1,8] zero_data: true } }',
            "sizes [1, -1, 8]",
        ),
        (
            'batch_size: 1 inputs { key: "image" value { data_type: TYPE_FP32 dims: [1,8,8] input_data_file: "a" } }',
            "warmup/a does not exist",
        ),
    ],
)
def test_warmup(repository, sample, text):
    repository.write("float", warmup=False).add(f'model_warmup {{ name: "w" {sample} }}\n')
    assert [line for line in repository.errors() if text in line]


def test_label_file(repository):
    repository.write("float").edit('name: "logits"', 'name: "logits"\n  label_filename: "labels.txt"')
    only(repository.errors(), "'labels.txt' is not in the model's folder")


@pytest.mark.parametrize(
    ("folder", "old", "new", "text"),
    [
        ("net_ensemble", 'model_name: "net"', 'model_name: "nets"', "step 2 (nets): There is no such model"),
        ("net_ensemble", 'value: "scores"', 'value: "score_list"', "Nothing makes tensor"),
        ("net_preprocess", "dims: [1, 8, 8]", "dims: [1, 8, 9]", "is [1, 8, 9] from step 1"),
        ("net_preprocess", "data_type: TYPE_FP32", "data_type: TYPE_FP16", "is TYPE_FP16 from step 1"),
        ("net_postprocess", "max_batch_size: 8", "max_batch_size: 4", "4 is smaller than the ensemble's, 8"),
        ("net_ensemble", 'key: "logits"', 'key: "logit"', "The model has no"),
    ],
)
def test_ensemble(repository, digits, folder, old, new, text):
    preprocess = ImagePreprocess(crop=8, channels="GRAY")
    write_ensemble(digits["float"], repository.folder, RepositoryOptions("net"), Classifier(preprocess))
    path = repository.folder / folder / "config.pbtxt"
    config = path.read_text()
    assert old in config
    path.write_text(config.replace(old, new, 1))
    assert [line for line in repository.errors() if text in line], repository.errors()


def test_no_repository(repository, tmp_path):
    repository.write("float")
    for folder, text in (
        (tmp_path / "none", "is not a folder"),
        (repository.model, "is a model's folder, no repository"),
        (repository.model / "1", "is a version's folder"),
    ):
        with pytest.raises(TritonError, match=text) as caught:
            validate_repository(folder)
        assert caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(TritonError, match="holds no model"):
        validate_repository(tmp_path / "empty")
