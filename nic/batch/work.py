"""One file of a batch, converted: what runs in the workers, one process or many."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nic.alpha import OPAQUE
from nic.batch import storage
from nic.batch.manifest import DONE, FAILED, LARGER, STARTED, Row
from nic.batch.storage import File
from nic.errors import NicError

if TYPE_CHECKING:
    from nic.models import Model
    from nic.picture import Picture

SANE_PSNR = 15.0
"""dB. Below it the source is kept: pictures that nic is not made for, such as noise, get there."""


@dataclass(frozen=True)
class Options:
    """What a batch is to do with every file."""

    decode: bool
    """From .nic to images, instead of to .nic."""
    target: str
    """Folder of outputs, absolute path or URL."""
    extension: str
    """Of outputs, with its dot."""
    coding: dict
    """Encoding, options of `codec.encode`; decoding, those of `images.to_bytes`."""
    model: str
    """Fingerprint of the model, hexadecimal."""
    weights: Path | None = None
    """Its file, if it is not the one shipped."""
    device: str = "cpu"
    """Where to code: `cpu` or `cuda`; files decode to the same latents on either."""
    strip: bool = False
    """Drop the metadata."""
    force: bool = False
    """Overwrite outputs that are of no earlier run."""
    skip_larger: bool = False
    delete_source: bool = False

    @property
    def settings(self) -> dict:
        """All that the bytes of an output depend on, but its input."""
        return {"decode": self.decode, "model": self.model, "strip": self.strip, **self.coding}


@dataclass(frozen=True)
class Task:
    """A file to convert, and where to."""

    file: File
    output: str
    """Name in the folder of outputs."""
    standing: int | None = None
    """Bytes of the output that stands there and is to be replaced, if one does."""
    ours: bool = False
    """It is of an earlier run, and of this file."""
    before: Row | None = None
    """What an earlier run with the same settings says of it."""

    @property
    def foreign(self) -> bool:
        """Whether what stands there is another's."""
        return self.standing is not None and not self.ours

    def row(self, options: Options, status: str, **values) -> Row:
        """A row of the manifest on this task."""
        return Row(self.output, self.file.path, self.file.stamp, options.settings, status, **values)

    def started(self, options: Options) -> Row:
        """The row to write before it is begun."""
        return self.row(options, STARTED, foreign=self.foreign)

    def failed(self, options: Options, error: str) -> Row:
        """The row of its failure: what stands there stays."""
        values = {"bytes_out": self.standing, "foreign": self.foreign}
        return self.row(options, FAILED, error=error, **values)

    def killed(self, options: Options) -> Row:
        """The row where its process was killed: it may have written the output before."""
        error = "its process was killed (out of memory?)"
        return self.row(options, STARTED, error=error, foreign=self.foreign)


def convert(task: Task, options: Options, model: Model) -> Row:
    """Convert one file; whatever is wrong with it stands in the row."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _convert(task, options, model)
    except NicError as error:
        # Some errors begin with the name, which stands beside them already.
        message = str(error).removeprefix(f"{task.file.path}: ")
    except MemoryError:
        message = "out of memory"
    except Exception as error:
        message = f"internal error: {type(error).__name__}: {error}"
    return task.failed(options, message)


def _convert(task: Task, options: Options, model: Model) -> Row:
    source = storage.read(task.file.path)
    digest = hashlib.sha256(source).hexdigest()
    if task.before and task.before.digest == digest:
        # The same bytes as ever: touched, copied, or kept until now.
        now = {"input": task.file.path, "stamp": task.file.stamp, "deleted": False}
        row = replace(task.before, **now, error=None)
    else:
        row = replace(_converted(source, task, options, model), digest=digest)
    if options.delete_source and row.status == DONE:
        loss = ", ".join(row.notes) or _difference(source, task, options, model)
        row = replace(row, error=loss and f"source kept: {loss}")
    return row


def _converted(source: bytes, task: Task, options: Options, model: Model) -> Row:
    """Write the output of a source, given as bytes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        picture, notes = _read_source(source, task, options, model)
        data = write_picture(picture, not options.decode, options.coding, model)
    notes += [str(warning.message) for warning in caught]
    facts = {"notes": tuple(notes), "bytes_in": len(source)}
    facts |= _rate(source if options.decode else data)
    path = storage.join(options.target, task.output)
    if options.skip_larger and len(data) > len(source):
        if task.ours:  # of the source as it was, or with other settings
            storage.remove(path)
        return task.row(options, LARGER, **facts)
    # What stands there already may be of an attempt that was killed just after it.
    if task.standing is not None or not storage.holds(path, data):
        storage.write(path, data, overwrite=task.standing is not None)
    return task.row(options, DONE, bytes_out=len(data), **facts)


def _read_source(
    data: bytes, task: Task, options: Options, model: Model
) -> tuple[Picture, list[str]]:
    return read_picture(data, options.decode, task.file.path, options.strip, model)


def read_picture(
    data: bytes, is_nic: bool, name: str, strip: bool, model: Model
) -> tuple[Picture, list[str]]:
    """A file's bytes -> picture, and notes on what was lost or converted. Errors: NicError."""
    from nic import codec, images
    from nic.appearance import stripped

    if is_nic:
        picture = codec.decode(data, model=model)
        return stripped(picture) if strip else (picture, [])
    file = io.BytesIO(data)
    file.name = name
    return images.load(file, strip=strip)


def write_picture(picture: Picture, to_nic: bool, coding: dict, model: Model) -> bytes:
    """Picture -> a file's bytes. Errors: NicError; warns of what is lost."""
    from nic import codec, images

    if to_nic:
        return codec.encode(picture, model=model, **coding)
    return images.to_bytes(picture, **coding)


def _rate(data: bytes) -> dict:
    """Bits per pixel and quality of a .nic file."""
    from nic import container

    header = container.read_header(data)
    return {
        "bpp": 8 * len(data) / header.pixels,
        "quality": round(header.quality, 2),
    }


def _difference(source: bytes, task: Task, options: Options, model: Model) -> str | None:
    """How the output, read back, is unlike the source; None if it is like it."""
    from nic.fidelity import psnr, visible_psnr
    from nic.images import EXIF_PREFIX

    path = storage.join(options.target, task.output)
    picture, _ = _read_source(source, task, options, model)
    try:
        back, _ = read_picture(storage.read(path), not options.decode, path, False, model)
    except NicError as error:
        return str(error).removeprefix(f"{path}: ")
    if back.pixels.shape[:2] != picture.pixels.shape[:2]:
        return "decoded to another size"
    for kind in ("icc", "exif", "xmp"):
        values = {(getattr(p, kind) or b"").removeprefix(EXIF_PREFIX) for p in (picture, back)}
        if len(values) > 1:
            return f"{kind} metadata not as it was"
    if _shows_through(back) != _shows_through(picture):
        return "transparency not as it was"
    likeness = visible_psnr(picture, back)
    if _shows_through(picture):
        likeness = min(likeness, psnr(picture.alpha, back.alpha))
    return f"PSNR of only {likeness:.1f} dB" if likeness < SANE_PSNR else None


def _shows_through(picture: Picture) -> bool:
    """Whether any pixel does: an alpha channel that is opaque all over is as good as none."""
    return picture.alpha is not None and picture.alpha.min() < OPAQUE
