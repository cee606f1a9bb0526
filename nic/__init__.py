"""nic: a learned image codec whose files decode to the same latents on every machine.

    data = nic.encode(image, quality=50)       # PIL.Image or uint8 array -> bytes
    image = nic.decode(data)                   # bytes -> PIL.Image
    header = nic.info(data)                    # without decoding
    image = nic.open("photo.nic")

Importing this module is cheap; NumPy, Pillow and PyTorch are loaded when first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nic.errors import (
    ChecksumError,
    FormatError,
    InputError,
    LimitExceeded,
    ModelMismatch,
    NicError,
    OutputError,
    UnsupportedVersion,
)

if TYPE_CHECKING:
    from io import FileIO

    import numpy as np
    from PIL import Image

    from nic.container import Header
    from nic.picture import Picture
    from nic.stored import Stored

__version__ = "0.1.0"

__all__ = [
    "ChecksumError",
    "FormatError",
    "InputError",
    "LimitExceeded",
    "ModelMismatch",
    "NicError",
    "OutputError",
    "UnsupportedVersion",
    "decode",
    "decode_batch",
    "encode",
    "encode_batch",
    "info",
    "open",
]


def encode(
    image: Image.Image | np.ndarray,
    quality: float | None = None,
    *,
    strip: bool = False,
    frame: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> bytes:
    """Encode an image to the bytes of a .nic file.

    image: a Pillow image of any mode, with metadata in `info` as Pillow's readers leave it there,
    or a uint8 array (H, W, 3) RGB or (H, W) gray. What a .nic file cannot hold, such as 16 bits a
    channel, is lost with a `UserWarning`. quality: 0..100, 50 by default; strip: drop metadata,
    having turned the picture upright and its colours to sRGB; frame: which of several to take,
    counted from 0; device: "cpu", "cuda" or "auto", where the shipped model is to run: `auto` takes
    a GPU where there is one and at least 16 megapixels to code, fewer at efforts above 3. `options`
    are those of `nic.codec.encode`, such as `size`, `psnr` and `effort`.
    Errors: InputError, LimitExceeded.
    """
    from nic import codec

    picture = _picture(image, strip, frame)
    chosen, _ = _on(device, [picture], _pixels_at(options))
    return codec.encode(picture, quality, **chosen, **options)


def encode_batch(
    images: Iterable[Image.Image | np.ndarray],
    quality: float = 50.0,
    *,
    strip: bool = False,
    device: str = "cpu",
    **options: Any,
) -> list[bytes]:
    """`encode` of several images, which are coded in lockstep: that takes less time than one after
    the other, a lot less on a GPU. `options` are those of `nic.codec.encode_batch`."""
    from nic import codec

    pictures = (_picture(image, strip, None) for image in images)
    chosen, pictures = _on(device, pictures, _pixels_at(options))
    return list(codec.encode_batch(pictures, quality, **chosen, **options))


def decode(data: bytes, *, device: str = "cpu", **options: Any) -> Image.Image:
    """Decode a .nic file, given as bytes or the like, to a Pillow image.

    Its mode is L, LA, RGB or RGBA; metadata stand in `info` as `icc_profile`, `exif` and `xmp`.
    `options` are those of `nic.codec.decode`. Errors: any NicError but OutputError.
    """
    return _image(_bytes(data), device, options)


def decode_batch(
    files: Iterable[bytes], *, device: str = "cpu", **options: Any
) -> list[Image.Image | NicError]:
    """`decode` of several files in lockstep, as in `encode_batch`.

    A file that cannot be decoded has its error in place of the image; the others are not hurt.
    `options` are those of `nic.codec.decode_batch`.
    """
    from nic import codec, images

    chosen, files = _on(device, map(_bytes, files), _pixels_of_file)
    results = codec.decode_batch(files, **chosen, **options)
    return [r if isinstance(r, NicError) else images.to_pil(r) for r in results]


def info(source: bytes | str | os.PathLike) -> Header:
    """Header of a .nic file, from its bytes or its path: size, quality, model, chunks.

    Only the header is read and verified. Errors: FormatError, ChecksumError, UnsupportedVersion,
    LimitExceeded, InputError where the file cannot be read.
    """
    from nic import container

    if isinstance(source, (str, os.PathLike)):
        return container.read_header(_read(source, container.MAX_HEADER_SIZE))
    return container.read_header(_bytes(source))


def open(path: str | os.PathLike, *, device: str = "cpu", **options: Any) -> Image.Image:
    """`decode` of the file at `path`, of which a `crop` reads only what it needs."""
    from nic.stored import Stored

    if not (options.get("crop") and os.path.isfile(path)):
        return decode(_read(path), device=device, **options)
    with _opened(path) as file:
        return _image(Stored(file), device, options)


def _image(data: bytes | Stored, device: str, options: dict[str, Any]) -> Image.Image:
    from nic import codec, images

    chosen, _ = _on(device, [data], _pixels_of_file)
    return images.to_pil(codec.decode(data, **chosen, **options))


def _on(
    device: str, work: Iterable[Any], pixels: Callable[[Any], int]
) -> tuple[dict[str, Any], Iterable[Any]]:
    """The option that has the shipped model run elsewhere, and the work, of which `auto` looks only
    at as much as makes a GPU worthwhile."""
    from nic.device import WORTHWHILE, choose

    if device == "auto":
        work, seen, total = iter(work), [], 0
        while total < WORTHWHILE and (item := next(work, None)) is not None:
            seen.append(item)
            total += pixels(item)
        device, work = choose(device, total), chain(seen, work)
    if device == "cpu":
        return {}, work
    from nic import models

    return {"model": models.load(device=device)}, work


def _pixels_at(options: dict[str, Any]) -> Callable[[Picture], int]:
    """What counts a picture's pixels, times the work that the options' effort makes of them."""
    from nic import effort

    factor = effort.work(effort.check_effort(options.get("effort", effort.DEFAULT_EFFORT)))
    return lambda picture: picture.width * picture.height * factor


def _pixels_of_file(data: bytes | Stored) -> int:
    """0 of a file that is bad, of which decoding will tell."""
    from nic import container

    try:
        return container.read_header(data[: container.MAX_HEADER_SIZE]).pixels
    except NicError:
        return 0


def _picture(image: Any, strip: bool, frame: int | None) -> Picture:
    """What is given to `encode`, with a UserWarning for what a .nic file cannot hold."""
    import warnings

    import numpy as np
    from PIL import Image

    from nic import images
    from nic.picture import Picture

    if not isinstance(image, (np.ndarray, Image.Image)):
        raise InputError(f"expected a Pillow image or an array, not {type(image).__name__}")
    if isinstance(image, np.ndarray):
        return Picture(image)
    picture, lost = images.from_pil(image, strip=strip, frame=frame)
    for message in lost:
        warnings.warn(message, stacklevel=3)
    return picture


def _bytes(data: Any) -> bytes:
    try:
        return bytes(memoryview(data))
    except TypeError as error:
        raise InputError(f"expected the bytes of a .nic file, not {type(data).__name__}") from error


def _read(path: str | os.PathLike, count: int | None = None) -> bytes:
    """All of a file, or as much as there is of its first `count` bytes. InputError names it."""
    from nic.stored import read_up_to

    with _opened(path) as file:
        try:
            return file.read() if count is None else read_up_to(file, count)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error


def _opened(path: str | os.PathLike) -> FileIO:
    try:
        return Path(path).open("rb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
