"""Pillow reads and writes .nic files once this module is imported.

    import nic.pillow
    from PIL import Image

    with Image.open("photo.nic") as image:     # reads the header: size, mode, metadata
        image.show()                           # decodes
    image.save("small.nic", quality=30)

`Image.save` takes `quality` (0..100) or instead of it `size`, `bpp` or `psnr`, and `effort`,
`alpha_quality`, `exact` and `lanes`, as `nic.encode` does, and `icc_profile`, `exif` and `xmp`,
which replace the image's own or, where None, drop them. Of an animation it takes the current frame.
Errors are Pillow's: opening raises UnidentifiedImageError or OSError, loading OSError, saving
ValueError.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

from PIL import Image, ImageFile

import nic
from nic import container, metadata
from nic.errors import FormatError, NicError
from nic.stored import read_up_to

FORMAT = "NIC"

SETTINGS = ("quality", "size", "bpp", "psnr", "effort", "alpha_quality", "exact", "lanes")
"""Options of `Image.save` that `nic.encode` takes as they are."""

METADATA = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
"""Fields of a `Picture` -> entries of an image's `info`, and options of `Image.save`."""


class NicImageFile(ImageFile.ImageFile):
    """A .nic file whose header is read and whose pixels are decoded by `load`."""

    format = FORMAT
    format_description = "Learned image codec nic"
    n_frames = 1
    is_animated = False

    def _open(self) -> None:
        with _errors_as(OSError):
            try:
                header = nic.info(self.fp.read(container.MAX_HEADER_SIZE))
            except FormatError as error:  # Pillow then tries other formats
                raise SyntaxError(str(error)) from error
        self._size = header.width, header.height
        self._mode = ("L" if header.gray else "RGB") + "A" * header.alpha
        self.tile = [ImageFile._Tile(FORMAT, (0, 0, *self.size), 0)]
        with _errors_as(OSError):
            self.info |= self._metadata(header)

    def _metadata(self, header: container.Header) -> dict[str, bytes]:
        chunks, at = {}, header.size
        for kind, size in header.chunks:
            if kind in metadata.KINDS:
                self.fp.seek(at)
                chunks[kind] = read_up_to(self.fp, size)
            at += size
        return {METADATA[name]: value for name, value in metadata.unpack(chunks).items()}

    def load_seek(self, pos: int) -> None:
        # Where this is defined, ImageFile.Parser waits for the whole file.
        self.fp.seek(pos)

    def verify(self) -> None:
        """Check every byte of the file, but decode nothing; raises OSError where it is damaged."""
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        try:
            self.fp.seek(0)
            with _errors_as(OSError):
                container.read(self.fp.read())
        finally:
            super().verify()


class NicDecoder(ImageFile.PyDecoder):
    """Decodes the whole file at once."""

    _pulls_fd = True

    def decode(self, buffer: bytes) -> tuple[int, int]:
        with _errors_as(OSError):
            image = nic.decode(self.fd.read())
        self.set_as_raw(image.tobytes())
        return -1, 0


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    from nic import codec, images  # which load NumPy

    options = image.encoderinfo
    given = {name: _as_bytes(options, key) for name, key in METADATA.items() if key in options}
    _check_exif(given.get("exif"))
    settings = {key: options[key] for key in SETTINGS if key in options}
    with _errors_as(ValueError):
        picture, lost = images.from_pil(image, frame=image.tell())
        for message in lost:
            warnings.warn(message, stacklevel=3)
        picture = replace(picture, **given)
        file.write(codec.encode(picture, **settings))


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    if image.encoderinfo.get("append_images") or getattr(image, "n_frames", 1) > 1:
        raise ValueError("a .nic file holds one picture")
    _save(image, file, filename)


def _as_bytes(options: dict[str, Any], key: str) -> bytes | None:
    """Metadata as Pillow's users pass it: bytes or the like, text, an Exif object, None."""
    value = options[key]
    if isinstance(value, Image.Exif):
        return value.tobytes()
    if isinstance(value, str):
        return value.encode()
    try:
        return value if value is None else bytes(memoryview(value))
    except TypeError as error:
        raise ValueError(f"{key}: expected bytes, not {type(value).__name__}") from error


def _check_exif(data: bytes | None) -> None:
    if not data:
        return
    try:
        Image.Exif().load(data)
    except (SyntaxError, struct.error) as error:
        raise ValueError(f"exif: {error}") from error


@contextmanager
def _errors_as(kind: type[Exception]) -> Iterator[None]:
    """Turns nic's errors into one that users of Pillow expect."""
    try:
        yield
    except NicError as error:
        raise kind(str(error)) from error


Image.register_open(FORMAT, NicImageFile, _accept)
Image.register_decoder(FORMAT, NicDecoder)
Image.register_save(FORMAT, _save)
Image.register_save_all(FORMAT, _save_all)
Image.register_extension(FORMAT, ".nic")
Image.register_mime(FORMAT, "image/x-nic")
