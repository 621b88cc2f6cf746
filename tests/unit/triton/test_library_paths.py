"""Where the server finds our libraries, and whether copies lie in the repository."""

from __future__ import annotations

import pytest

from ort_quant_plugin.triton.library_paths import copied_libraries, server_paths
from ort_quant_plugin.triton.options import RepositoryOptions

OPS, DEPLOY = "libort_quant_ops.so", "libort_quant_deploy.so"
BOTH = (OPS, DEPLOY)


@pytest.mark.parametrize(
    ("options", "paths", "copied"),
    [
        ({}, ["{repository}/net/" + OPS, "{repository}/net/" + DEPLOY], BOTH),
        ({"mount": "/models"}, ["/models/net/" + OPS, "/models/net/" + DEPLOY], BOTH),
        ({"ops_path": "kserve"}, ["/mnt/models/net/" + OPS, "/mnt/models/net/" + DEPLOY], BOTH),
        ({"ops_path": "bare"}, [OPS, DEPLOY], ()),
        ({"ops_path": "/opt/lib"}, ["/opt/lib/" + OPS, "/opt/lib/" + DEPLOY], ()),
        ({"ops_path": "/opt/lib/libmine.so"}, ["/opt/lib/libmine.so", "/opt/lib/" + DEPLOY], ()),
        ({"backend": "python"}, [OPS, DEPLOY], BOTH),
        ({"backend": "python", "ops_path": "bare"}, [OPS, DEPLOY], BOTH),
    ],
)
def test_rules(tmp_path, monkeypatch, options, paths, copied):
    monkeypatch.chdir(tmp_path)
    made = RepositoryOptions("net", **options)
    found = server_paths(BOTH, made, (tmp_path / "repository").relative_to(tmp_path))
    assert list(found) == [path.format(repository=tmp_path.resolve() / "repository") for path in paths]
    assert copied_libraries(BOTH, made) == copied


def test_the_users_libraries_come_last(tmp_path):
    made = RepositoryOptions("net", op_libraries=("/opt/libacme.so",))
    assert server_paths((OPS,), made, tmp_path)[1:] == ("/opt/libacme.so",)
    assert server_paths((), made, tmp_path) == ("/opt/libacme.so",)
