"""Load on a real server: figures that agree with the server's own, and wrong answers that are seen."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ort_quant_plugin.cli.main import cli
from ort_quant_plugin.errors import ConfigError, TritonError
from ort_quant_plugin.triton.bench import bench
from ort_quant_plugin.triton.client import connect as connect_to
from ort_quant_plugin.triton.load import Job, difference, run_turn
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model
from ort_quant_plugin.triton.requests import REGION_PREFIX, SharedRequests
from ort_quant_plugin.triton.served import describe_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    write_model(digits.models["float"], folder, RepositoryOptions("fp32", warmup=False))
    write_model(digits.models["ort"], folder, RepositoryOptions("int8", warmup=False))
    return folder


@pytest.fixture(scope="module")
def server(serve, repository):
    return serve(repository)


def regions():
    return list(Path("/dev/shm").glob(f"{REGION_PREFIX}{os.getpid()}_*"))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def address(server, protocol):
    return f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"


@pytest.mark.parametrize(
    ("protocol", "shared_memory"),
    [("http", False), ("grpc", True)],
)
def test_figures(server, protocol, shared_memory):
    report = bench(
        address(server, protocol), ["fp32", "int8:1"], concurrency=[1, 3], seconds=0.4, batch=2,
        shared_memory=shared_memory,
    )  # fmt: skip
    assert regions() == []
    assert [model.model for model in report.models] == ["fp32", "int8:1"]
    assert (report.wrong, report.errors, report.checked) == (0, 0, "first answer")
    for model in report.models:
        assert [point.concurrency for point in model.points] == [1, 3]
        for point in model.points:
            assert 0 < point.p50_ms <= point.p95_ms <= point.p99_ms
            assert 0 < point.queue_ms + point.compute_ms < point.mean_ms
            assert point.throughput == pytest.approx(point.requests * 2 / point.seconds)
            assert 0.4 <= point.seconds < 10
            assert point.mean_batch >= 2
        assert model.points[0].mean_batch == 2  # one caller: nothing to join
    ratio = report.models[1].points[0].throughput / report.models[0].points[0].throughput
    assert report.speedups(1)[0] == pytest.approx(ratio)
    assert json.loads(json.dumps(report.to_dict()))["models"][1]["speedups"][0] == pytest.approx(ratio)


@pytest.fixture
def job(server, digits):
    """Requests to the quantized model and their answers; arguments change fields."""
    images = [{"image": digits.images[start : start + 3]} for start in range(0, 12, 3)]
    with connect_to(server.http_url) as client:
        model = describe_model(client, "int8")
    expected = [{"logits": digits.answer("ort", feed["image"])} for feed in images]
    return lambda **fields: Job(
        **{
            "url": address(server, "http"), "protocol": None, "timeout": 10, "shared_memory": False, "model": model,
            "feeds": images, "expected": expected, **fields,
        }
    )  # fmt: skip


def test_the_servers_counters_are_those_of_the_turn(server, job):
    """Settling must not be in them, nor other turns."""
    with connect_to(server.http_url) as client:
        turn = run_turn(client, job(), 2, 0.3)
    assert turn.statistics.requests == len(turn.latencies) > 0
    assert turn.statistics.inferences == 3 * len(turn.latencies)
    assert (turn.wrong, turn.errors) == (0, 0)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_shared_memory(server, job, protocol):
    work = job()
    with connect_to(address(server, protocol)) as client:
        requests = SharedRequests(client, work.model, work.feeds, work.expected)
        assert len(regions()) == 2
        for index in (0, 3, 1):
            assert difference(work.expected[index], requests.send(index)) == 0
        # Other inputs in the same place, so other answers: the memory is what the server reads and writes.
        requests._given.write(work.feeds[1]["image"], 0)
        assert difference(work.expected[1], requests.send(0)) == 0
        requests.close()
    assert regions() == []


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_callers_leave_nothing_open(server, job, protocol):
    work = job(url=address(server, protocol))
    with connect_to(server.http_url) as client:
        run_turn(client, work, 3, 0.05)  # libraries open files of their own when they are used first
        files = open_files()
        run_turn(client, work, 3, 0.05)
    deadline = time.monotonic() + 10  # gRPC closes its connections in threads of its own
    while open_files() > files and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files() <= files


def test_memory_the_server_cannot_map(server, job):
    work = job()
    with connect_to(server.http_url) as client:
        share = client.share
        client.share = lambda name, key, size: share(name, key + "_missing", size)
        with pytest.raises(TritonError, match="The server cannot map shared memory"):
            SharedRequests(client, work.model, work.feeds, work.expected)
    assert regions() == []


def test_a_caller_that_cannot_start(server, job):
    with connect_to(server.http_url) as client:
        text = [{"image": np.array([[b"text"]], object)}] * 4
        with pytest.raises(TritonError, match="is text, whose size is not known"):
            run_turn(client, job(feeds=text, shared_memory=True), 3, 0.1)


def test_data_and_references(server, digits, tmp_path):
    np.save(tmp_path / "images.npy", digits.images[:40])
    models = {"fp32": digits.models["float"], "int8": digits.models["ort"]}
    report = bench(
        server.http_url, list(models), data=str(tmp_path / "images.npy"), references=models,
        concurrency=[2], seconds=0.3, batch=4, tolerance=1e-5,
    )  # fmt: skip
    assert (report.wrong, report.checked) == (0, "onnxruntime")


def test_wrong_answers_are_seen(server, digits):
    """The float model as the reference of the quantized one: nothing agrees."""
    options = {"concurrency": [1, 2], "seconds": 0.2, "references": {"int8": digits.models["float"]}}
    report = bench(server.http_url, ["int8"], **options)
    answers = sum(point.requests for point in report.models[0].points)
    assert report.wrong == answers > 0
    assert 0 < report.models[0].largest_error < 10
    assert bench(server.http_url, ["int8"], **options, tolerance=10).wrong == 0
    assert bench(server.http_url, ["int8"], **options, check=False).checked is None


def test_a_server_that_ends(serve, repository):
    server = serve(repository)
    timer = threading.Timer(1.0, server.kill)
    timer.start()
    with pytest.raises(TritonError) as failure:  # its counters cannot be asked for any more
        bench(server.grpc_url, ["fp32"], protocol="grpc", concurrency=[2], seconds=2, timeout=5)
    timer.join()
    assert failure.value.details["unreachable"]


def test_refusals(server):
    for options, message in [
        ({"models": []}, "models is"),
        ({"concurrency": [0]}, r"concurrency is \[0\]; expected numbers of at least 1"),
        ({"seconds": 0}, "seconds is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"references": {"other": "x.onnx"}}, r"references is \['other'\]; expected models of these: int8"),
    ]:
        with pytest.raises(ConfigError, match=message):
            bench(server.http_url, **{"models": ["int8"], **options})
    with pytest.raises(TritonError, match="takes batches of at most 8, not 9"):
        bench(server.http_url, ["int8"], batch=9)
    with pytest.raises(TritonError, match="unknown model"):
        bench(server.http_url, ["none"])


def run(*arguments):
    result = CliRunner().invoke(
        cli, ["triton", "bench", *map(str, arguments)], prog_name="ort-quant", env={"COLUMNS": None}
    )
    assert "Traceback" not in result.stderr
    return result


def test_command(server, digits):
    result = run(f"grpc://{server.grpc_url}", "fp32", "int8", "--concurrency", "1,2", "--seconds", "0.2")
    assert result.exit_code == 0, result.stderr
    assert "PASSED" in result.stdout
    assert "bit for bit equal to the first ones" in " ".join(result.stdout.split())
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith(("fp32", "int8"))]
    assert [line[:2] for line in lines] == [["fp32", "1"], ["int8", "1"], ["fp32", "2"], ["int8", "2"]]
    assert all(line[-1].endswith("x") for line in lines)

    wrong = run(
        server.http_url, "int8", "--concurrency", 1, "--seconds", 0.2, "--json",
        "--reference", f"int8={digits.models['float']}",
    )  # fmt: skip
    assert wrong.exit_code == 1
    document = json.loads(wrong.stdout)
    assert document["schema"] == "ort-quant/triton-bench/1"
    assert document["wrong"] == document["models"][0]["points"][0]["requests"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["int8", "--concurrency", "1,x"],
        ["int8", "--reference", "int8"],
        ["int8", "--data", "x.npy", "--data-types", "float32"],
        ["int8", "--batch-size", "9"],
    ],
)
def test_command_refusals(server, arguments):
    result = run(server.http_url, *arguments, "--seconds", "0.1")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "error: " in result.stderr
    assert "hint: " in result.stderr
