"""Options are checked when they are made."""

from __future__ import annotations

import pytest

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "Model name ''"),
        ({"name": "a/b"}, "Model name 'a/b'"),
        ({"name": ".."}, "Model name"),
        ({"name": "-x"}, "Model name '-x'"),
        ({"max_batch": -1}, "max_batch is -1"),
        ({"max_batch": True}, "max_batch is True"),
        ({"instances": 0}, "instances is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"version": 0}, "version is 0"),
        ({"graph_level": 3}, "graph_level is 3"),
        ({"backend": "tensorrt"}, "backend is 'tensorrt'"),
        ({"version_policy": "newest"}, "version_policy is 'newest'"),
        ({"version_policy": "latest:0"}, "version_policy"),
        ({"tags": {"a b": "x"}}, "Metric tag 'a b'"),
        ({"ops_path": "lib/libx.so"}, "ops_path is 'lib/libx.so'"),
        ({"ops_path": "./libx.so"}, "working directory"),
        ({"mount": "models"}, "mount is 'models'"),
        ({"mount": "/models", "ops_path": "kserve"}, "'absolute' only"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        RepositoryOptions(**{"name": "net", **options})
    assert caught.value.hint


@pytest.mark.parametrize(
    "options", [{"queue_delay_us": -1}, {"max_queue_size": -1}, {"timeout_us": 1.5}, {"preferred_sizes": (0,)}]
)
def test_refused_batching(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        DynamicBatching(**options)


def test_accepted():
    for policy in ("all", "latest", "latest:3", "1", "1,3"):
        RepositoryOptions("net", version_policy=policy)
    RepositoryOptions("Net-1.2_b", ops_path="/opt/lib/libx.so", max_batch=0, threads=0, graph_level=-1)
