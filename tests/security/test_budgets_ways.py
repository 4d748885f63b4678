"""What is small on the disk and long to go through: webs of links, pictures of many frames, headers."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from adapt import FewShotAdapter
from adapt.adapter.storage import CARD, LAYOUT
from adapt.artifact import copy
from tasks import TaskError, TextFile
from tasks.images import _listing
from tasks.images._listing import list_images
from tasks.images.decoded import decoded


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, kind)
    return file.getvalue()


def tiff(frames: int) -> bytes:
    """One frame, referred to again and again."""
    content = picture("TIFF")
    (start,) = struct.unpack("<I", content[4:8])
    (fields,) = struct.unpack("<H", content[start : start + 2])
    frame = content[start : start + 2 + 12 * fields]
    made, following = bytearray(content), start + len(frame)
    for _ in range(frames - 1):
        made[following : following + 4] = struct.pack("<I", len(made))
        made += frame + bytes(4)
        following = len(made) - 4
    return bytes(made)


def test_frames_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """To count those of a TIFF takes as long as their number squared."""
    from PIL import GifImagePlugin, TiffImagePlugin

    looked: list[int] = []
    for kind in (TiffImagePlugin.TiffImageFile, GifImagePlugin.GifImageFile):
        seek = kind._seek  # type: ignore[attr-defined]

        def counted(self: Image.Image, *args: int, seek=seek) -> None:
            looked.append(1)
            seek(self, *args)

        monkeypatch.setattr(kind, "_seek", counted)
    still = picture("GIF")
    first = still.index(b",")
    gif = still[:first] + 3000 * still[first:-1] + b";"
    assert [decoded(content, 8, 1)[2] for content in (tiff(1), tiff(3000), still, gif)] == [0, 1, 0, 1]
    assert len(looked) < 20


def linked(root: Path, levels: int, links: int, last: int) -> None:
    """Folders each of which leads to the next by several links; the last one to the folder ``last``."""
    for level in range(levels):
        (root / f"d{level}").mkdir()
    Image.new("L", (1, 1)).save(root / f"d{levels - 1}" / "x.png")
    for level in range(levels):
        for link in range(links):
            if (to := level + 1 if level + 1 < levels else last) < levels:
                (root / f"d{level}" / f"l{link}").symlink_to(f"../d{to}")


def test_a_web_of_links_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listing, "MOST_LINKS", 100)
    linked(tmp_path, levels=40, links=2, last=40)
    with pytest.raises(TaskError, match="more than 100 links to folders"):
        list_images(tmp_path)


def test_links_that_lead_around_are_gone_once(tmp_path: Path) -> None:
    linked(tmp_path, levels=3, links=1, last=0)
    found = [entry.path for entry in list_images(tmp_path).entries]
    assert found == ["d0/l0/l0/x.png", "d1/l0/x.png", "d2/x.png"]


def test_columns_are_not_counted_for_each_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.text import _read

    compared = 0

    class Name(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, str(other))

        __hash__ = str.__hash__

    header = [Name(name) for name in ("text", "label", *(f"c{i}" for i in range(1000)))]
    monkeypatch.setattr(_read, "_header", lambda *_: (header, ","))
    path = tmp_path / "a.csv"
    path.write_text(",".join(header) + "\n" + ",".join(["a"] * len(header)) + "\n", encoding="utf-8")
    assert len(_read.read_rows(path, _read.Columns())) == 1
    assert compared < 10 * len(header)


@pytest.mark.parametrize("encoding", ["undefined", "punycode", "idna"])
def test_encodings_that_are_not_of_files(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + b"xn--" * 30 + b"\xff, b\n")
    with pytest.raises(TaskError, match=encoding):
        TextFile(str(tmp_path / "a.csv"), encoding=encoding)


def test_a_card_that_is_a_link_elsewhere_is_not_copied(adapter: FewShotAdapter, tmp_path: Path) -> None:
    """What is copied is sent to a server."""
    for name in ("saved", "whole", "without"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    adapter.save_pretrained(tmp_path / "saved")
    copy(tmp_path / "saved", tmp_path / "whole", LAYOUT, (CARD,))
    assert (tmp_path / "whole" / CARD).is_file()
    (tmp_path / "saved" / CARD).unlink()
    (tmp_path / "saved" / CARD).symlink_to(tmp_path / "secret")
    copy(tmp_path / "saved", tmp_path / "without", LAYOUT, (CARD,))
    assert not (tmp_path / "without" / CARD).exists()
    assert (
        FewShotAdapter.from_pretrained(tmp_path / "without", adapter.backbone).space.size
        == adapter.space.size
    )
