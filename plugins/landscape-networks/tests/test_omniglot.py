"""OMNIGLOT from small folders written here."""

import io
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from landscape.errors import ConfigurationError, DataError
from landscape.testing import check_component
from landscape_networks.omniglot import Omniglot, _read_png

ALPHABETS = {"Greek": 3, "Latin": 2, "N_Ko": 1}


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _drawing(alphabet, character, person):
    """Return ink (True) as a pattern that says which drawing it is."""
    rng = np.random.default_rng([zlib.crc32(alphabet.encode()), character, person])
    return rng.random((105, 105)) < 0.3


def _png(ink):
    """Write a drawing like the published ones: one bit per pixel, ink black."""
    file = io.BytesIO()
    Image.fromarray(~ink).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    number = 0
    for part, alphabets in (("background", ALPHABETS), ("evaluation", {"Atlantean": 2})):
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                number += 1
                here = root / "omniglot-py" / f"images_{part}" / alphabet / f"character{character:02}"
                here.mkdir(parents=True)
                for person in range(1, 21):
                    (here / f"{number:04}_{person:02}.png").write_bytes(
                        _png(_drawing(alphabet, character, person))
                    )
    return root


def _lookup():
    found = {}
    for label, (alphabet, character) in enumerate(
        (a, c) for a in ALPHABETS for c in range(1, ALPHABETS[a] + 1)
    ):
        for person in range(1, 21):
            found[_drawing(alphabet, character, person).tobytes()] = (label, alphabet, person)
    return found


def test_images_are_one_where_there_is_ink_and_keep_their_characters(folder):
    splits = Omniglot(folder=str(folder), size=105).load(_generator())
    lookup = _lookup()
    persons = {"train": {}, "test": {}}
    for split, count in (("train", 16), ("test", 4)):
        x, y = splits[split].everything()
        assert x.shape == (6 * count, 1, 105, 105)
        assert y.tolist() == list(range(6)) * count  # characters take turns
        for image, label in zip(x[:, 0].numpy(), y.tolist(), strict=True):
            assert set(np.unique(image)) == {0.0, 1.0}
            found, alphabet, person = lookup.pop((image == 1).tobytes())
            assert found == label
            persons[split].setdefault(alphabet, set()).add(person)
    assert not lookup  # every drawing is in one of the splits
    for alphabet in ALPHABETS:  # the people who are held back are the same for all characters of an alphabet
        assert len(persons["test"][alphabet]) == 4
        assert not persons["test"][alphabet] & persons["train"][alphabet]


@pytest.mark.parametrize("size", [28, 35, 1])
def test_smaller_images_are_averages_over_areas(folder, size):
    large = Omniglot(folder=str(folder), size=105).load(_generator())["train"].everything()[0]
    small = Omniglot(folder=str(folder), size=size).load(_generator())["train"].everything()[0]
    # Window i of an average over areas goes from floor(105 i / n) to ceil(105 (i + 1) / n).
    edges = [(105 * i // size, -(-105 * (i + 1) // size)) for i in range(size)]
    for i, j in ((0, 0), (size - 1, size // 2), (size // 3, size - 1)):
        (top, bottom), (left, right) = edges[i], edges[j]
        truth = large[:, 0, top:bottom, left:right].mean((1, 2))
        torch.testing.assert_close(small[:, 0, i, j], truth, atol=1e-6, rtol=0)


def test_parts_alphabets_characters_and_labels_can_be_chosen(folder):
    def sizes(**fields):
        splits = Omniglot(folder=str(folder), **fields).load(_generator())
        return {name: (data.examples, int(data.everything()[1].max()) + 1) for name, data in splits.items()}

    assert sizes() == {"train": (96, 6), "test": (24, 6)}
    assert sizes(part="evaluation") == {"train": (32, 2), "test": (8, 2)}
    assert sizes(part="both", labels="alphabet") == {"train": (128, 4), "test": (32, 4)}
    assert sizes(alphabets=("Greek", "N_Ko"), test_drawings=0) == {"train": (80, 4)}
    assert sizes(alphabets="Latin", test_drawings=19) == {"train": (2, 2), "test": (38, 2)}
    assert sizes(characters=2) == {"train": (32, 2), "test": (8, 2)}


def test_choices_depend_on_the_generator_alone(folder):
    dataset = Omniglot(folder=str(folder), characters=3)
    prints = [dataset.load(_generator(seed))["train"].fingerprint() for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_what_is_missing_is_named_with_its_home(tmp_path, folder):
    with pytest.raises(DataError) as error:
        Omniglot(folder=str(tmp_path)).load(_generator())
    for part in (
        "folder images_background",
        str(tmp_path / "omniglot-py"),
        "Brenden Lake",
        "images_background.zip",
    ):
        assert part in str(error.value)
    (tmp_path / "images_background").mkdir()
    with pytest.raises(DataError, match="no folder of an alphabet in images_background"):
        Omniglot(folder=str(tmp_path)).load(_generator())
    with pytest.raises(DataError, match=r"no alphabet 'Grek'.*Did you mean 'Greek'"):
        Omniglot(folder=str(folder), alphabets="Grek").load(_generator())
    with pytest.raises(DataError, match=r"characters=7, but there are only 6"):
        Omniglot(folder=str(folder), characters=7).load(_generator())


def test_a_character_without_one_of_its_drawings_is_refused(tmp_path):
    here = tmp_path / "images_background" / "Greek" / "character01"
    here.mkdir(parents=True)
    for person in range(1, 20):
        (here / f"0001_{person:02}.png").write_bytes(_png(_drawing("Greek", 1, person)))
    with pytest.raises(DataError, match="19 images of the character instead of 20"):
        Omniglot(folder=str(tmp_path)).load(_generator())


_CONTENT = _png(_drawing("Greek", 1, 1))


@given(cut=st.integers(0, len(_CONTENT) - 1))
@settings(max_examples=80, deadline=None)
def test_an_image_cut_at_any_byte_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "image.png"
    path.write_bytes(_CONTENT[:cut])
    with pytest.raises(DataError, match=r"image\.png"):
        _read_png(path)


@given(place=st.integers(0, len(_CONTENT) - 1), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path_factory, place, flip):
    path = tmp_path_factory.mktemp("flip") / "image.png"
    content = bytearray(_CONTENT)
    content[place] ^= flip
    path.write_bytes(content)
    try:
        found = _read_png(path)
    except DataError:
        return
    np.testing.assert_array_equal(found == 0, _drawing("Greek", 1, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_png(np.zeros((104, 105), bool)), "has 105 x 104 pixels instead of 105 x 105"),
        (b"GIF89a", "no complete PNG"),
        (_CONTENT + b"\x00", "no complete PNG"),
    ],
)
def test_what_is_no_image_of_the_data_set_is_refused(tmp_path, content, message):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        _read_png(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": "bckground"}, r"part='bckground'.*Did you mean 'background'"),
        ({"test_drawings": 20}, "test_drawings=20"),
        ({"size": 106}, "size=106"),
        ({"size": 0}, "size=0"),
        ({"characters": 0}, "characters=0"),
        ({"labels": "letter"}, "labels='letter'"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Omniglot(**fields)


def test_the_dataset_keeps_the_rules_of_a_component():
    check_component(Omniglot)
    check_component(Omniglot("x", "both", ["Greek"], 3, 2, 35, "centre", "alphabet"))
