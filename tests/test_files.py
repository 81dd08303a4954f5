"""Atomic writing: the whole file, or the old one and nothing beside it."""

import errno
import os
import stat

import pytest

from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.files import check_writable, replace_folder, write_atomically


def test_content_arrives_and_folders_are_made(tmp_path):
    write_atomically(tmp_path / "new" / "deep" / "file.bin", b"content")
    assert (tmp_path / "new" / "deep" / "file.bin").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["file.bin"]


def test_existing_file_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"a much longer old content")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_others_may_read_it_as_any_file(tmp_path):
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_failure_at_the_last_step_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(LwRefineNetError, match="taken: cannot be written"):
        write_atomically(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_full_disk_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(LwRefineNetError, match=r"file: cannot be written \(No space left on device\)"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_to_see_whether_a_folder_can_be_written_leaves_nothing_new(tmp_path):
    check_writable(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    check_writable(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LwRefineNetError, match="below: cannot be written"):
        write_atomically(tmp_path / "file" / "below", b"content")


def test_a_drive_that_cannot_flush_folders_is_written_all_the_same(tmp_path, monkeypatch):
    flush = os.fsync

    def files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", files_alone)
    replace_folder(tmp_path / "last", {"a": b"content"}, former=tmp_path / "previous")
    assert (tmp_path / "last" / "a").read_bytes() == b"content"


def test_a_link_stays_one_and_what_is_no_file_is_written_to(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "far" / "result.json")
    write_atomically(tmp_path / "link.json", b"1")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "far" / "result.json").read_bytes() == b"1"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", b"2")
    assert os.read(reader, 9) == b"2" and not (tmp_path / "pipe").is_file()
    os.close(reader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "link.json", "pipe"]
