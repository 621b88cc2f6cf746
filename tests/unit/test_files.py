"""Files appear whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ort_quant_plugin.errors import ConfigError, OutputError
from ort_quant_plugin.files import check_writable, read_text, staging_folder, write_text


def test_a_link_keeps_pointing_at_its_file(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_an_interrupted_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_folders_are_made_and_a_folder_is_no_target(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.txt", "x\r\ny")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"x\r\ny"
    with pytest.raises(OutputError, match="Cannot write"):
        write_text(tmp_path / "a", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_reading_tells_what_was_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"Thing '.*gone' does not exist\. Hint: make it") as caught:
        read_text(tmp_path / "gone", what="Thing", error=ConfigError, hint="make it")
    assert caught.value.details["path"].endswith("gone")


def test_a_folder_that_cannot_be_made_is_found_out_early(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Not a directory"):
        check_writable(tmp_path / "file" / "below")
    check_writable(tmp_path / "new" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


_STAGE = """
import pathlib, sys, time
from ort_quant_plugin.files import staging_folder
with staging_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "part").write_text("x")
    print("staged", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_behind_is_removed_by_the_next_write(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _STAGE, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "staged\n"
        write_text(tmp_path / "a", "x")
        assert len(list(tmp_path.glob(".ort-quant-*"))) == 1  # a living process works there
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob(".ort-quant-*"))) == 1
    write_text(tmp_path / "b", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_staging_folders_of_one_process_do_not_meet(tmp_path):
    with staging_folder(tmp_path) as first:
        write_text(first / "part", "x")
        with staging_folder(tmp_path) as second:
            assert first != second
            assert (first / "part").is_file()
