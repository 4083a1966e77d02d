import pytest

from orchestrator.store import atomic


def test_whole_or_not_at_all(odd_path, monkeypatch):
    path = odd_path / "file.md"
    atomic.write_text(path, "first")

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        atomic.write_text(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in odd_path.iterdir()] == ["file.md"]


def test_unchanged_files_are_not_touched(tmp_path):
    path = tmp_path / "file"
    assert atomic.write_if_changed(path, "é")
    before = path.stat().st_mtime_ns
    assert not atomic.write_if_changed(path, "é")
    assert path.stat().st_mtime_ns == before


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "view").symlink_to(tmp_path / "target")
    assert atomic.write_if_changed(tmp_path / "view", "mine")
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "view").is_symlink()
