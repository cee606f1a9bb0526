"""Images to .nic and back, with the shipped model."""

import gc
import json
import weakref
import zlib
from itertools import chain
from pathlib import Path

import crafted
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from vectors.make import EFFORT, NIC_1, VECTORS, picture

import nic
from nic import codec, container, images, models, regions, symbols, tiles
from nic.config import CONFIGS
from nic.errors import (
    ChecksumError,
    FormatError,
    InputError,
    LimitExceeded,
    ModelMismatch,
    NicError,
)
from nic.fidelity import psnr
from nic.picture import Picture

FOLDER = Path(__file__).parent / "vectors"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())

pytestmark = pytest.mark.usefixtures("model")


def golden(name: str) -> tuple[bytes, models.Model]:
    """A golden file and its model."""
    return (FOLDER / f"{name}.nic").read_bytes(), models.load(VECTORS[name].weights)


@pytest.mark.parametrize("name", VECTORS)
def test_golden_files_decode_to_the_same_latents_and_picture(name):
    data, model = golden(name)
    expected, source = MANIFEST[name], VECTORS[name].picture
    header, chunks = container.read(data)
    assert len(data) == expected["bytes"]
    assert header.fingerprint.hex() == model.fingerprint.hex() == expected["model"]
    assert header.lanes == VECTORS[name].lanes
    v_hat = codec.decode_latents(header, chunks, model)
    assert f"{zlib.crc32(v_hat.astype('<i4').tobytes()):08x}" == expected["latents_crc"]
    restored = codec.decode(data, model=model)
    np.testing.assert_array_equal(restored.alpha, source.alpha)
    assert (restored.icc, restored.exif, restored.xmp) == (source.icc, source.exif, source.xmp)
    # Pixels may differ by a grey level from machine to machine.
    picture, _ = images.load(FOLDER / f"{name}.png")
    assert picture.pixels.shape == restored.pixels.shape
    assert np.abs(picture.pixels.astype(int) - restored.pixels).max() <= 1
    np.testing.assert_array_equal(picture.alpha, restored.alpha)


def test_the_script_makes_the_golden_files():
    # One of few latents: on another machine, one of many might be rounded otherwise.
    data, model = golden("rgb-48x33-q50")
    source, quality, lanes, *_ = VECTORS["rgb-48x33-q50"]
    assert codec.encode(source, quality, model=model, lanes=lanes, effort=EFFORT) == data


@pytest.mark.parametrize("name", VECTORS)
def test_golden_latents_encode_to_the_same_bytes(name):
    data, model = golden(name)
    header, chunks = container.read(data)
    v_hat = codec.decode_latents(header, chunks, model)
    for tile in tiles.unpack(header, chunks):
        hyper, latents = tile.streams["H"], tile.streams["L"]
        z_hat = model.prior.decode_z(hyper, *regions.size(tile.region))
        own = v_hat[tile.region]
        assert model.prior.encode_z(z_hat) == hyper
        y = model.prior.encode_y(own / 64, z_hat, header.quality_step, header.lanes)
        assert y.stream == latents
        np.testing.assert_array_equal(y.v_hat, own)


def test_every_feature_has_a_golden_file(monkeypatch):
    escapes, read_escape = [], symbols._read_escape
    monkeypatch.setattr(symbols, "_read_escape", lambda *a: escapes.append(a) or read_escape(*a))
    features = set()
    for name in VECTORS:
        data, model = golden(name)
        header, chunks = container.read(data)
        parts = tiles.unpack(header, chunks)
        codec.decode_latents(header, chunks, model)
        features |= {*chunks, header.quality_step, ("lanes", header.lanes), model.config.name}
        features |= {("gray", header.gray, "alpha", header.alpha, "tiles", len(parts) > 1)}
        features |= {("size", header.width, header.height), ("escapes", bool(escapes))}
        features |= {("opaque tile", tile.streams.get("A") == b"") for tile in parts}
        escapes.clear()
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    assert features >= {
        *"HLTAcexf", *CONFIGS, 0, 255, ("lanes", 1), ("lanes", 4), ("lanes", 128), ("size", 1, 1),
        ("escapes", True), ("opaque tile", True), ("gray", False, "alpha", False, "tiles", True),
        *(("gray", gray, "alpha", alpha, "tiles", False) for gray, alpha in kinds),
    }  # fmt: skip


@settings(max_examples=25)
@given(st.integers(1, 130), st.integers(1, 130), st.booleans(), st.integers(0, 100))
def test_every_size_round_trips(width, height, gray, quality):
    pixels = picture(width, height, gray)
    data = codec.encode(Picture(pixels), quality)
    header = container.read_header(data)
    assert (header.width, header.height, header.gray) == (width, height, gray)
    decoded = codec.decode(data).pixels
    assert decoded.shape == pixels.shape and decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, codec.decode(data).pixels)


def test_rate_and_fidelity_rise_with_quality():
    pixels = picture(128, 96)
    files = [codec.encode(Picture(pixels), q) for q in (0, 15, 30, 45, 60, 75, 90, 100)]
    sizes = [len(data) for data in files]
    fidelity = [psnr(pixels, codec.decode(data).pixels) for data in files]
    assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes)
    assert fidelity == sorted(fidelity)


def test_lanes_cost_bytes_but_change_no_pixel():
    pixels = picture(128, 96)
    one, many = (codec.encode(Picture(pixels), 60, lanes=lanes) for lanes in (1, 16))
    assert len(one) < len(many) < len(one) + 16 * 6
    np.testing.assert_array_equal(codec.decode(one).pixels, codec.decode(many).pixels)


def test_estimated_and_real_bits_agree(shared_data):
    for name in ("kodim04.png", "kodim13.png", "kodim23.png"):
        pixels = np.asarray(Image.open(shared_data / "kodak" / name))
        for quality in (10, 50, 90):
            report: dict = {}
            data = codec.encode(Picture(pixels), quality, report=report)
            bits = report["hyper_bits"] + report["latent_bits"]
            filters = len(container.read(data)[1].get("f", b""))  # where none pays, there is none
            assert len(data) - filters - bits / 8 <= 42
            assert bits == pytest.approx(report["estimated_bits"], rel=0.01)


def test_every_flipped_bit_of_a_file_is_noticed():
    data = codec.encode(Picture(picture(9, 7)), 40)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NicError):
            codec.decode(bytes(damaged))


def test_every_cut_file_is_noticed():
    data = codec.encode(Picture(picture(9, 7)), 40)
    for length in range(len(data)):
        with pytest.raises(NicError):
            codec.decode(data[:length])


@settings(max_examples=40)
@given(st.data())
def test_damage_behind_right_checksums_is_an_error_or_a_picture(choose):
    """With the container's CRCs made good again, the streams themselves must not be trusted."""
    data = codec.encode(Picture(picture(20, 20)), 60)
    header, chunks = container.read(data)
    kind = choose.draw(st.sampled_from("HL"))
    stream = bytearray(chunks[kind])
    for _ in range(choose.draw(st.integers(1, 3))):
        at = choose.draw(st.integers(0, len(stream) - 1))
        stream[at] = choose.draw(st.integers(0, 255))
    chunks[kind] = bytes(stream)
    damaged = container.write(
        list(chunks.items()), fingerprint=header.fingerprint, quality_step=header.quality_step,
        gray=header.gray, lanes=header.lanes, width=header.width, height=header.height,
        latents_crc=header.latents_crc,
    )  # fmt: skip
    if damaged != data:
        with pytest.raises(NicError):
            codec.decode(damaged)


def test_latents_that_do_not_match_their_checksum_are_an_error():
    header, chunks = container.read(codec.encode(Picture(picture(20, 20)), 60))
    damaged = container.write(
        list(chunks.items()), fingerprint=header.fingerprint, quality_step=header.quality_step,
        gray=False, lanes=1, width=20, height=20, latents_crc=header.latents_crc ^ 1,
    )  # fmt: skip
    with pytest.raises(ChecksumError, match="latents"):
        codec.decode(damaged)


def test_a_file_of_another_model_names_both():
    header, chunks = container.read(codec.encode(Picture(picture(8, 8)), 60))
    foreign = container.write(
        list(chunks.items()), fingerprint=b"\1" * 8, quality_step=1, gray=False, lanes=1,
        width=8, height=8, latents_crc=0,
    )  # fmt: skip
    with pytest.raises(ModelMismatch) as raised:
        codec.decode(foreign)
    assert "0101010101010101" in str(raised.value) and header.fingerprint.hex() in str(raised.value)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
    ids=["four channels", "float", "empty", "one dimension"],
)
def test_arrays_that_are_no_image_are_refused(pixels):
    with pytest.raises(InputError):
        codec.encode(Picture(pixels), 50)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 101},
        {"quality": -1},
        {"quality": 50, "lanes": 3},
        {"quality": 50, "alpha_quality": 101},
        {"size": "100k"},
        {"size": 10**400},
        {"bpp": "x"},
        {"bpp": -1},
        {"psnr": "high"},
        {"effort": 3.0},
        {"effort": "3"},
        {"effort": True},
        {"lanes": 2.0},
        {"lanes": [1]},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        codec.encode(Picture(picture(4, 4)), **options)


@pytest.mark.parametrize(
    "crop", [(0, 0, 1), (0, 0, 1.5, 2), "0,0,2,2", 7, (0, 0, 0, 2), ()], ids=str
)
def test_crops_that_are_none_are_refused(crop):
    with pytest.raises(InputError, match="crop"):
        codec.decode(codec.encode(Picture(picture(4, 4))), crop=crop)


@pytest.mark.parametrize(
    "quality, step", [(0, 0), (7.06, 18), (50, 128), (99.8, 254), (99.9, 255), (100, 255)]
)
def test_quality_steps(quality, step):
    assert codec.quality_step(quality) == step


def test_errors_do_not_wait_for_files_to_come():
    def endless():
        while True:
            yield b"no picture"

    results = codec.decode_batch(endless())
    assert [str(next(results)) for _ in range(3)] == ["not a .nic file (at byte 0)"] * 3
    sound = codec.encode(Picture(picture(4, 4)))
    results = codec.decode_batch(chain([sound], endless()))
    assert next(results).width == 4 and isinstance(next(results), NicError)


def test_damage_names_its_part_of_the_file():
    data = codec.encode(Picture(picture(4, 4), exif=b"MM"))
    header, chunks = container.read(data)
    chunks["e"] = b"\x80\x01" + chunks["e"]
    with pytest.raises(FormatError, match=r"^the exif chunk: integer with leading zeros$"):
        codec.decode(crafted.rewritten(header, chunks))
    data = codec.encode(Picture(picture(4, 4)), lanes=2)
    header, chunks = container.read(data)
    chunks["L"] = b"\x80\x01" + chunks["L"]
    with pytest.raises(FormatError, match=r"^the image: lane lengths: integer with leading zeros$"):
        codec.decode(crafted.rewritten(header, chunks))


def test_pictures_are_let_go():
    # Generators of other tests that are collected within `encode` keep its frames a while longer.
    gc.collect()
    original = Picture(picture(4, 4))
    kept = weakref.ref(original.pixels)
    codec.encode(original)
    del original
    assert kept() is None


def test_sizes_beyond_the_format_are_refused_before_any_work():
    with pytest.raises(LimitExceeded):
        codec.encode(Picture(np.broadcast_to(np.uint8(0), (70000, 1, 3))), 50)


def test_public_interface_takes_images_and_arrays(tmp_path):
    pixels = picture(30, 20)
    image = Image.fromarray(pixels)
    data = nic.encode(image, quality=70)
    assert data == nic.encode(pixels, quality=70)
    decoded = nic.decode(data)
    assert (decoded.mode, decoded.size) == ("RGB", (30, 20))
    (tmp_path / "a.nic").write_bytes(data)
    assert nic.info(tmp_path / "a.nic") == nic.info(data)
    assert np.array_equal(nic.open(tmp_path / "a.nic"), decoded)
    with pytest.warns(UserWarning, match="CMYK"):
        nic.encode(Image.new("CMYK", (4, 4)))
    assert np.array_equal(nic.decode(bytearray(data)), decoded)
    for wrong in ("photo.png", [1, 2], None):
        with pytest.raises(InputError):
            nic.encode(wrong)
        with pytest.raises(InputError):
            nic.decode(wrong)
    with pytest.raises(InputError, match="missing.nic"):
        nic.open(tmp_path / "missing.nic")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_and_metadata_come_back(mode):
    image = Image.new("RGBA", (20, 10), (200, 100, 50, 99)).convert(mode)
    image.info |= {"icc_profile": b"profile" * 99, "exif": b"Exif\0\0MM\0*junk", "xmp": b"<x/>"}
    image.info["comment"] = "not kept"
    with pytest.warns(UserWarning, match="comments"):
        decoded = nic.decode(nic.encode(image))
    kept = {key: image.info[key] for key in ("icc_profile", "exif", "xmp")}
    assert (decoded.mode, decoded.size, decoded.info) == (mode, image.size, kept)


@pytest.mark.parametrize("gray", [False, True])
def test_alpha_is_exact_and_what_is_hidden_costs_little(gray):
    pixels = picture(100, 60, gray)
    opacity = np.random.default_rng(0).integers(0, 256, pixels.shape[:2], np.uint8)
    opacity[:, 30:] = 0
    whole = codec.encode(Picture(pixels, opacity), 60, exact=True)
    cheap = codec.encode(Picture(pixels, opacity), 60)
    streams = [dict(container.read_header(data).chunks) for data in (whole, cheap)]
    assert streams[1]["L"] < 0.7 * streams[0]["L"]
    for data, least in ((whole, 29), (cheap, 0)):
        decoded = codec.decode(data)
        np.testing.assert_array_equal(decoded.alpha, opacity)
        visible = opacity > 0
        assert psnr(pixels[visible], decoded.pixels[visible]) > 29
        assert psnr(pixels, decoded.pixels) > least


def test_opaque_alpha_is_not_stored():
    pixels = picture(30, 20)
    data = codec.encode(Picture(pixels, np.full((20, 30), 255, np.uint8)), 50)
    assert data == codec.encode(Picture(pixels), 50)
    assert codec.decode(data).alpha is None


def test_coarse_alpha_is_smaller():
    opacity = np.random.default_rng(0).integers(0, 256, (64, 128), np.uint8)
    sizes = []
    for quality in (100, 50, 0):
        data = codec.encode(Picture(picture(128, 64), opacity), 50, alpha_quality=quality)
        sizes.append(dict(container.read_header(data).chunks)["A"])
        error = np.abs(codec.decode(data).alpha.astype(int) - opacity).max()
        assert error <= {100: 0, 50: 6, 0: 128}[quality]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_a_file_that_is_no_weight_file_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x08" + bytes(7) + b"notjson!")
    with pytest.raises(InputError, match="not a weight file"):
        models.load(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="No such file"):
        models.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["g_a.head.weight", "std", "prior.gains", "prior.skip_below"])
def test_a_weight_file_without_one_of_its_tensors_is_refused(name, tmp_path):
    data = models.SHIPPED.read_bytes()
    tensors = safetensors.numpy.load(data)
    del tensors[name]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors", header["__metadata__"])
    with pytest.raises(InputError, match="not a sound weight file"):
        models.load(tmp_path / "w.safetensors")


class TestBatches:
    """Several images in lockstep."""

    PICTURES = [Picture(picture(w, h)) for w, h in [(40, 30), (7, 90), (64, 64), (1, 1), (30, 20)]]

    def test_encoding_gives_the_same_bytes(self, model):
        alone = [codec.encode(p, 60, model=model, lanes=2) for p in self.PICTURES]
        assert list(codec.encode_batch(self.PICTURES, 60, model=model, lanes=2)) == alone
        assert nic.encode_batch([p.pixels for p in self.PICTURES], 60, lanes=2) == alone

    def test_lanes_auto_gives_the_same_bytes_too(self, model):
        pictures = [Picture(picture(w, h)) for w, h in [(150, 100), (20, 20), (90, 90)]]
        alone = [codec.encode(p, 80, model=model, lanes="auto") for p in pictures]
        assert list(codec.encode_batch(pictures, 80, model=model, lanes="auto")) == alone
        assert len({container.read(data)[0].lanes for data in alone}) > 1

    def test_decoding_takes_files_of_any_quality_and_lanes(self):
        model = models.load(NIC_1)
        files = [golden(name)[0] for name in VECTORS if VECTORS[name].weights == NIC_1]
        for data, together in zip(files, codec.decode_batch(files, model=model), strict=True):
            alone = codec.decode(data, model=model)
            np.testing.assert_array_equal(together.pixels, alone.pixels)
            np.testing.assert_array_equal(together.alpha, alone.alpha)
            assert (together.icc, together.exif, together.xmp) == (alone.icc, alone.exif, alone.xmp)

    def test_a_bad_file_hurts_no_other(self, model):
        files = [codec.encode(p, 60, model=model) for p in self.PICTURES]
        header, chunks = container.read(files[2])
        damaged = container.write(
            fingerprint=header.fingerprint,
            quality_step=header.quality_step,
            gray=header.gray,
            lanes=header.lanes,
            width=header.width,
            height=header.height,
            latents_crc=header.latents_crc ^ 1,
            chunks=list(chunks.items()),
        )
        bad = [files[0], b"no", files[1], damaged, files[3][:-1], files[4]]
        results = nic.decode_batch(bad)
        kinds = [type(r).__name__ if isinstance(r, NicError) else r.size for r in results]
        assert kinds == [(40, 30), "FormatError", (7, 90), "ChecksumError", "FormatError", (30, 20)]

    def test_options_are_those_of_decode(self):
        data, model = golden("tiles-1040x24-q30")
        [part] = codec.decode_batch([data], crop=(1020, 2, 10, 3), model=model)
        expected = codec.decode(data, crop=(1020, 2, 10, 3), model=model)
        np.testing.assert_array_equal(part.pixels, expected.pixels)
        [error] = codec.decode_batch([data], crop=(0, 0, 2000, 1), model=model)
        assert isinstance(error, InputError)

    def test_of_nothing(self):
        assert nic.encode_batch([]) == [] and nic.decode_batch([]) == []


@pytest.mark.parametrize("target", [{"quality": 5}, {"quality": 90}, {"size": 2500}, {"psnr": 30}])
def test_auto_lanes_cost_less_than_one_percent(model, target):
    source = Picture(picture(200, 150))
    one, auto = (codec.encode(source, **target, lanes=n, model=model) for n in (1, "auto"))
    lanes = container.read(auto)[0].lanes
    assert lanes == symbols.lanes_within(0.01 * len(one))
    assert len(auto) <= 1.01 * len(one)
    assert len(auto) <= target.get("size", len(auto))
    assert lanes > 1 or len(one) < 800
