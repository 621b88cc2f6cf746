"""Calibration in production: clients ask a served calibration model, a flush brings the sketches of what it saw."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import ort_quant_plugin as oq
from ort_quant_plugin.api import default_sketch_file
from ort_quant_plugin.cli.main import cli
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.errors import CalibrationError, OutputError, TritonError
from ort_quant_plugin.ops.library import onnxruntime_module, session_options
from ort_quant_plugin.record import Record
from ort_quant_plugin.triton.client import connect as connect_to
from ort_quant_plugin.triton.collect import calibrate_from_triton, collect_sketches
from ort_quant_plugin.triton.config import config_text, parse_config
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model

pytestmark = pytest.mark.slow


def write_calibration_model(folder, name, method):
    """A calibration model of the digits network and its record, with one method for all tensors."""
    config = folder / f"{name}.json"
    oq.create_quant_config(str(config), str(demo_model_path()), batch_num=5)
    document = json.loads(config.read_text())
    for layer in document.values():
        if isinstance(layer, dict) and "activation_quant_params" in layer:
            layer["activation_quant_params"] = {"act_algo": method, "num_bits": 8, "asymmetric": True}
    config.write_text(json.dumps(document))
    model, record = folder / f"{name}.onnx", folder / f"{name}.txt"
    oq.quantize_model(str(config), str(demo_model_path()), str(model), str(record))
    return model, record


@pytest.fixture(scope="module")
def images():
    return load_digits().calibration


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {method: write_calibration_model(folder, f"digits_{method}", method) for method in ("kld", "ifmr")}


@pytest.fixture(scope="module")
def repository(models, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    write_model(models["kld"][0], folder, RepositoryOptions("digits_kld"))
    write_model(models["ifmr"][0], folder, RepositoryOptions("digits_ifmr"))
    write_model(digits.models["float"], folder, RepositoryOptions("digits_float"))
    written = write_model(models["kld"][0], folder, RepositoryOptions("two"))
    config = parse_config(written.config)
    config.instance_group[0].count = 2
    written.config.write_text(config_text(config))
    return folder


@pytest.fixture(scope="module")
def server(serve, repository):
    return serve(repository)


@pytest.fixture
def calibration(server, models, tmp_path):
    """Copies of model and record, and a server whose sketches are empty: `model`, `record`, `ask`."""
    return Calibration(server, *write_calibration_model(tmp_path, "digits_kld", "kld"))


class Calibration:
    def __init__(self, server, model, record):
        self.server, self.model, self.record = server, model, record
        with connect_to(server.http_url) as client:
            flush = {"image": np.zeros((0, 1, 8, 8), np.float32), "ort_quant.flush": np.array([True])}
            client.infer("digits_kld", flush)

    def ask(self, images, *, protocol="http", batch=7, explicit=False):
        """What clients do that know nothing of calibration; `explicit` ones send a false flush."""
        url = self.server.grpc_url if protocol == "grpc" else self.server.http_url
        extra = {"ort_quant.flush": np.array([False])} if explicit else {}
        with connect_to(url, protocol=protocol) as client:
            answers = [
                client.infer("digits_kld", {"image": images[start : start + batch], **extra}, outputs=["logits"])
                for start in range(0, len(images), batch)
            ]
        return np.concatenate([answer["logits"] for answer in answers])

    def expected(self, images, method=None):
        """The records that the same data makes in a session here."""
        session = onnxruntime_module().InferenceSession(str(self.model), session_options())
        (blob,) = session.run(["ort_quant.sketches"], {"image": images, "ort_quant.flush": np.array([True])})
        found = oq.write_ranges(self.model, blob.tobytes(), method=method)
        return {name: Record.read(path).to_text() for name, path in found.items()}


def texts(records):
    return {name: Record.read(path).to_text() for name, path in records.items()}


def test_requests_of_clients_make_the_record(calibration, images, digits):
    logits = calibration.ask(images[:40])
    calibration.ask(images[40:80], protocol="grpc", batch=11)
    calibration.ask(images[80:], explicit=True)
    usual = digits.answer("float", images[:40])
    assert (logits.argmax(1) == usual.argmax(1)).mean() > 0.95  # clients get answers: those of rounded weights
    found = calibrate_from_triton(calibration.model, [calibration.server.http_url], "digits_kld")
    made = texts(found.records)
    assert made == calibration.expected(images)
    assert (found.collections, found.sketches) == (1, None)
    assert found.values >= images.size
    assert sorted(path.name for path in calibration.model.parent.iterdir()) == [
        "digits_kld.json",
        "digits_kld.onnx",
        "digits_kld.txt",
    ]
    report = oq.save_model(str(calibration.model), str(calibration.record), str(calibration.model.parent / "out/net"))
    session = onnxruntime_module().InferenceSession(str(report.outputs["ort"]), session_options())
    (answers,) = session.run(None, {"image": digits.images})
    assert (answers.argmax(1) == digits.labels[: len(answers)]).mean() > 0.9


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_data_is_sent_and_flushed(calibration, images, protocol):
    server = calibration.server
    url = f"grpc://{server.grpc_url}" if protocol == "grpc" else server.http_url
    found = calibrate_from_triton(
        calibration.model, [url], "digits_kld", data=images, data_options={"batch_size": 16}, method=["mse", "ifmr"]
    )
    assert texts(found.records) == calibration.expected(images, method=["mse", "ifmr"])


def test_data_is_shared_out_among_servers(calibration, images):
    urls = [calibration.server.http_url, f"grpc://{calibration.server.grpc_url}", calibration.server.http_url]
    found = calibrate_from_triton(calibration.model, urls, "digits_kld", data=images, data_options={"batch_size": 10})
    assert found.collections == 3
    assert texts(found.records) == calibration.expected(images)


def test_kept_sketches_add_up(calibration, images):
    file = calibration.model.parent / "kept.sketches"
    urls = [calibration.server.http_url]
    for part in (images[:50], images[50:]):
        calibration.ask(part)
        found = calibrate_from_triton(calibration.model, urls, "digits_kld", sketches=file)
        assert found.sketches == file
    assert found.collections == 2
    assert texts(found.records) == calibration.expected(images)
    assert {tensor.count > 0 for tensor in oq.ranges(file).tensors} == {True}


def test_what_one_server_gave_is_not_lost_when_the_next_one_fails(calibration, images):
    calibration.ask(images[:70])
    url = calibration.server.http_url
    with pytest.raises(TritonError, match="has seen no data"):
        calibrate_from_triton(calibration.model, [url, url], "digits_kld")
    assert default_sketch_file(calibration.model).exists()
    calibration.ask(images[70:])
    found = calibrate_from_triton(calibration.model, [url], "digits_kld")
    assert found.collections == 2
    assert texts(found.records) == calibration.expected(images)


def test_nothing_asked(calibration):
    before = calibration.record.read_text()
    with pytest.raises(TritonError, match=r"Model 'digits_kld' at .* has seen no data since"):
        calibrate_from_triton(calibration.model, [calibration.server.http_url], "digits_kld")
    assert calibration.record.read_text() == before


def test_bad_data_is_refused_and_forgotten(calibration, images):
    spoiled = images[:5].copy()
    spoiled[2, 0, 3, 3] = np.nan
    calibration.ask(spoiled)
    with pytest.raises(CalibrationError, match="inf/nan"):
        calibrate_from_triton(calibration.model, [calibration.server.http_url], "digits_kld")
    calibration.ask(images)
    found = calibrate_from_triton(calibration.model, [calibration.server.http_url], "digits_kld")
    assert texts(found.records) == calibration.expected(images)


def test_models_that_hand_out_no_sketches(server, models):
    for name in ("digits_float", "digits_ifmr"):
        with pytest.raises(TritonError, match=rf"Model '{name}' at .* hands out no sketches"):
            collect_sketches(server.http_url, name)
    with pytest.raises(TritonError, match="runs in 2 instances; each has sketches of its own"):
        collect_sketches(server.http_url, "two")
    with pytest.raises(TritonError, match="unknown model"):
        collect_sketches(server.http_url, "other")


def test_sketches_of_another_model(calibration, models, images):
    calibration.ask(images[:20])
    file = calibration.model.parent / "kept.sketches"
    oq.calibrate(str(calibration.model), images, batch_size=10, sketches=file)
    with pytest.raises(OutputError, match="holds sketches of another model"):
        calibrate_from_triton(calibration.model, [calibration.server.http_url], "digits_kld", sketches=file)
    # Refused before the flush: nothing is lost.
    found = calibrate_from_triton(calibration.model, [calibration.server.http_url], "digits_kld")
    assert texts(found.records) == calibration.expected(images[:20])


def run(*arguments):
    result = CliRunner().invoke(cli, ["calibrate", *map(str, arguments)], prog_name="ort-quant")
    assert "Traceback" not in result.stderr
    return result


def test_command(calibration, images):
    calibration.ask(images)
    url = calibration.server.http_url
    result = run(calibration.model, "--from-triton", url)  # the model is called as its file
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Calibrated on 1 collection from 1 server, up to ")
    assert Record.read(calibration.record).to_text() == calibration.expected(images)[""]
    np.save(calibration.model.parent / "images.npy", images)
    result = run(
        calibration.model, "--from-triton", url, "--from-triton", f"grpc://{calibration.server.grpc_url}",
        "--triton-model", "digits_kld:1", "--data", calibration.model.parent / "images.npy", "--batch-size", 30,
        "--method", "kld,mse", "--save-sketches", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["collections"], set(document["records"])) == (2, {"kld", "mse"})
    assert document["sketches"].endswith("digits_kld.sketches")


def test_command_refusals(calibration):
    url = calibration.server.http_url
    for arguments, message in [
        (["--triton-model", "x"], "--triton-model needs --from-triton"),
        (["--from-triton", url, "--workers", 2], "have no effect with --from-triton"),
        (["--from-triton", "ftp://x"], "is not the address of a Triton server"),
        (["--from-triton", url, "--triton-model", "digits_float"], "hands out no sketches"),
    ]:
        result = run(calibration.model, *arguments)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())
        assert "hint: " in result.stderr
