"""Files made to do harm: whatever is in them, a result or a `NicError` comes of it.

A few hundred mutations here, and as many as there is time for by `make fuzz`.
"""

from __future__ import annotations

import contextlib
import io
import json

import crafted
import numpy as np
import pytest
import safetensors.numpy
from fuzz import seeds, targets
from fuzz.repair import repaired
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from nic import codec, container, images
from nic.appearance import stripped
from nic.errors import FormatError, LimitExceeded, NicError
from nic.picture import Picture

pytestmark = pytest.mark.usefixtures("golden_model")

GOLDEN = {name: data for name, data in seeds.golden_files() if not name.startswith("tiles")}

edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4
)
"""Where, as a part of the length; bytes that are taken away there; those that are put there."""


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, removed, added in edits:
        at = int(place * len(data))
        data = data[:at] + added + data[at + removed :]
    return data


def test_repairing_leaves_sound_files_alone(golden_model):
    for _, data in seeds.golden_files():
        assert repaired(data, golden_model.fingerprint) == data
        assert repaired(data[:-4] + b"\0" * 4, golden_model.fingerprint) == data


@pytest.mark.parametrize("target", ["container", "symbols", "decode", "pillow"])
@settings(max_examples=60)
@given(name=st.sampled_from(sorted(GOLDEN)), edits=edits)
def test_edited_files(golden_model, target, name, edits):
    targets.TARGETS[target](edited(GOLDEN[name], edits))


@settings(max_examples=8)
@given(name=st.sampled_from(sorted(GOLDEN)), edits=edits)
def test_edited_files_on_the_command_line(golden_model, name, edits):
    targets.run_commands(edited(GOLDEN[name], edits))


def exif() -> bytes:
    """A block of every kind: numbers, texts, a fraction, data on camera and place."""
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 6
    block[ExifTags.Base.Model] = "camera"
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.01
    block.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    return block.tobytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", sorted(images.METADATA_FORMATS))
@settings(max_examples=60)
@given(edits=edits)
def test_edited_exif_is_written_or_dropped(format, edits):
    picture = Picture(np.zeros((3, 5, 3), np.uint8), exif=edited(exif(), edits))
    assert images.to_bytes(picture, format) and stripped(picture)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["GIF", "ICNS", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP"])
@settings(max_examples=60)
@given(edits=edits, strip=st.booleans())
def test_edited_images(format, edits, strip):
    file = io.BytesIO()
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    Image.fromarray(pixels).save(file, format, exif=exif())
    with contextlib.suppress(NicError):
        images.load(io.BytesIO(edited(file.getvalue(), edits)), strip=strip)


def test_a_small_file_of_many_pixels_is_refused_at_once(golden_model):
    # 64 tiles; one of them may cost nothing, each other 256 bytes: 252 for every one.
    for hyper, error in [(0, LimitExceeded), (251, LimitExceeded), (252, FormatError)]:
        data = crafted.empty(8192, hyper, golden_model.fingerprint)
        with pytest.raises(error):
            codec.decode(data)
        with pytest.raises(FormatError):
            codec.decode(data, any_ratio=True)


def test_one_tile_is_never_too_many_pixels(golden_model):
    container.check_ratio(container.read_header(crafted.empty(1024, 0, golden_model.fingerprint)))


def test_flat_images_are_far_from_the_limit_of_pixels_for_bytes(golden_model):
    data = codec.encode(Picture(np.full((512, 512), 255, np.uint8)), 0, effort=0)
    assert 3 * 512**2 < container.MAX_RATIO * len(data)


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> bytes:
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    seeds.write_small_model(path)
    return path.read_bytes()


@np.errstate(all="ignore")
@settings(max_examples=60)
@given(edits=edits)
def test_edited_weight_files(small_weights, edits):
    size = 8 + int.from_bytes(small_weights[:8], "little")
    header, tensors = small_weights[8:size], small_weights[size:]
    # The header is a tenth of the file, and most of what can go wrong.
    header = edited(header, edits)
    targets.read_weights(len(header).to_bytes(8, "little") + header + tensors)
    targets.read_weights(edited(small_weights, edits))


@np.errstate(all="ignore")
@settings(max_examples=100)
@given(st.data())
def test_altered_tensors_of_weight_files(small_weights, choose):
    tensors = safetensors.numpy.load(small_weights)
    name = choose.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name].astype(choose.draw(st.sampled_from("?bBhHiIqQefd")))
    flat = tensor.reshape(-1).copy()
    if len(flat):
        raw = flat.view(np.uint8)
        at = choose.draw(st.integers(0, len(raw) - 1))
        raw[at : at + 8] = choose.draw(st.sampled_from([0, 1, 127, 128, 255]))
    rank = choose.draw(st.sampled_from([tensor.shape, (-1,), (1, -1)]))
    tensors[name] = flat.reshape(rank)
    text = json.loads(small_weights[8 : 8 + int.from_bytes(small_weights[:8], "little")])
    targets.read_weights(safetensors.numpy.save(tensors, text["__metadata__"]))
