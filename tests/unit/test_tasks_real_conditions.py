"""Conditions that nobody made: signs by the light of their tracks, characters by who drew them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import GroupedTasks, GTSRBLight, OmniglotDrawers, TaskError
from tasks.images import gtsrb, omniglot

# ------------------------------------------------------------------------------------------- tracks of signs

TRACKS = {0: 12, 1: 21, 2: 9, 3: 10}  # of each class


def films() -> dict[str, np.ndarray]:
    """Tracks of two or three frames, of a class in no order of light, each class at a scale of its own."""
    rows = []
    for label, count in TRACKS.items():
        bright = np.random.default_rng(label).permutation(count)
        for track in range(count):
            rows += [
                (label, track, bright[track] * (4 + label) + frame, bright[track])
                for frame in range(2 + track % 2)
            ]
    classes, tracks, light, rank = np.array(rows).T
    images = np.zeros((len(rows), 3, 8, 8), np.uint8) + light[:, None, None, None].astype(np.uint8)
    images[:, 0, 0, 0] = tracks  # to be known again
    images[:, 1, 0, 0] = rank
    return {"images": images, "classes": classes, "tracks": tracks}


@pytest.fixture
def films_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gtsrb, "decoded", lambda size, root, download: films())


def seen(x: torch.Tensor, channel: int) -> list[int]:
    return (x[:, channel, 0, 0] * 255).round().int().tolist()


@pytest.mark.usefixtures("films_on_disk")
def test_levels_are_of_tracks_and_go_from_dark_to_bright() -> None:
    source = GTSRBLight(levels=5)
    assert source.card.counts["classes"] == 3 and source.card.counts["tracks"] == 43  # class 2 has too few
    names = sorted(name for split in source.splits for name in source.groups(split))
    assert names == [f"light {k:02d} of 5" for k in range(1, 6)]
    assert [*source.groups("test")] == names[:1] and [*source.groups("validation")] == names[3:4]
    assert [*source.groups("train")] == [names[1], names[2], names[4]]
    for level, name in enumerate(names):
        drawn = source.sample(np.random.default_rng(0), name, 2, 1)
        assert drawn.classes == ("00000", "00001", "00003")
        ranks = seen(torch.from_numpy(drawn.support_x), 1)
        for rank, label in zip(ranks, drawn.support_y.tolist(), strict=True):
            count = TRACKS[int(drawn.classes[label])]
            assert rank in np.array_split(np.arange(count), 5)[level]


@pytest.mark.usefixtures("films_on_disk")
def test_supports_and_queries_are_of_other_tracks() -> None:
    source = GTSRBLight(levels=5)
    for split in source.splits:
        rooms = source.groups(split)
        for name, room in rooms.items():
            assert room is not None and room >= 3
            for shots in range(1, room):
                for seed in range(5):
                    drawn = source.sample(np.random.default_rng(seed), name, shots, room - shots)
                    support, query = (
                        {*zip(y.tolist(), seen(torch.from_numpy(x), 0), strict=True)}
                        for x, y in (drawn[:2], drawn[2:4])
                    )
                    assert not support & query
    tasks = GroupedTasks(source, 1, 2, "test")
    tracks = {tuple(seen(episode.support_x, 0)) for episode in tasks.episodes(0, 20)}
    assert len(tracks) > 3  # which track is for what is drawn anew


@pytest.mark.usefixtures("films_on_disk")
def test_sharp_tracks_are_told_from_blurred_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    data = films()
    rng, line = np.random.default_rng(0), np.linspace(0, 255, 8)
    for row, (label, track) in enumerate(zip(data["classes"], data["tracks"], strict=True)):
        share = track / TRACKS[int(label)]
        data["images"][row] = share * rng.integers(0, 256, (3, 8, 8)) + (1 - share) * line
        data["images"][row, 0, 0, 0] = track
    monkeypatch.setattr(gtsrb, "decoded", lambda size, root, download: data)
    source = GTSRBLight(levels=5, by="sharpness")
    mean = {}
    for split in source.splits:
        for name in source.groups(split):
            mean[name] = np.mean(
                seen(torch.from_numpy(source.sample(np.random.default_rng(0), name, 2, 1)[0]), 0)
            )
    assert [*mean] != sorted(mean) and [*map(mean.get, sorted(mean))] == sorted(mean.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "colour"}, "by='colour' is unknown: use one of light, sharpness"),
        ({"levels": 4}, "levels=4 is too small: use levels>=5"),
        ({"size": 4}, "size=4 is too small"),
    ],
)
def test_mistakes_of_levels_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=f"gtsrb_light: {message}"):
        GTSRBLight(**settings)


# ------------------------------------------------------------------------------------ drawings of characters

CHARACTERS = {"Greek": 9, "Korean": 6}


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels say alphabet, character and person."""
    names = [f"{name}/character{k:02d}" for name, count in CHARACTERS.items() for k in range(count)]
    images = np.zeros((len(names), 20, 1, 8, 8), np.uint8)
    images[..., 0, 0, 0] = np.arange(len(names))[:, None]
    images[..., 0, 0, 1] = np.arange(20)
    found = {"images": images.reshape(-1, 1, 8, 8), "names": np.array(names)}
    monkeypatch.setattr(omniglot, "decoded", lambda size, root, download: (Path(), found))


@pytest.mark.usefixtures("drawings")
def test_a_group_is_a_person_and_a_class_the_same_characters_for_all() -> None:
    source = OmniglotDrawers(("Greek", "Korean"), sets=3)
    assert [len(source.groups(split)) for split in source.splits] == [24, 8, 8]
    people: dict[str, set[str]] = {}
    characters: dict[tuple[str, int], set[int]] = {}
    for split in source.splits:
        for name, room in source.groups(split).items():
            alphabet, person = name.split("/drawer ")
            assert room == CHARACTERS[alphabet] // 3
            people.setdefault(alphabet, set()).add(person)
            drawn = source.sample(np.random.default_rng(0), name, 1, room - 1)
            assert drawn.classes == ("set 01", "set 02", "set 03")
            x = np.concatenate([drawn.support_x, drawn.query_x])
            pixels = (x[:, 0, 0, :2] * 255).round().astype(int)
            assert {*pixels[:, 1].tolist()} == {int(person) - 1}  # one hand
            assert len({*pixels[:, 0].tolist()}) == len(x)  # no character twice
            labels = np.concatenate([drawn.support_y, drawn.query_y]).tolist()
            for character, label in zip(pixels[:, 0].tolist(), labels, strict=True):
                characters.setdefault((alphabet, label), set()).add(character)
    assert {len(numbers) for numbers in people.values()} == {20}
    for alphabet, count in CHARACTERS.items():
        sets = [characters[alphabet, label] for label in range(3)]
        assert [len(each) for each in sets] == [count // 3] * 3 and len(set.union(*sets)) == count


@pytest.mark.usefixtures("drawings")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphabets": ["Klingon"]}, "alphabet 'Klingon' is unknown: use some of Greek, Korean"),
        ({"alphabets": ["Korean"], "sets": 4}, "Korean has 6 characters, too few .*: use sets<=3"),
        ({"alphabets": "Korean"}, "give a list of names, each once"),
        ({"alphabets": ["Greek", "Greek"]}, "give a list of names, each once"),
        ({"sets": 1}, "sets=1 is too small: use sets>=2"),
    ],
)
def test_mistakes_of_drawers_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=f"omniglot_drawers: .*{message}"):
        OmniglotDrawers(**settings)
