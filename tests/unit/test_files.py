"""Text files appear whole or not at all."""

from __future__ import annotations

import pytest

from ort_quant_plugin.errors import ConfigError, OutputError
from ort_quant_plugin.files import check_writable, read_text, write_text


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
