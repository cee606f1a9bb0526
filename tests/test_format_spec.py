"""The document is the format: its example file is parsed and decoded."""

import re
from pathlib import Path

from vectors.make import NIC_1

from nic import codec, container, models

SPEC = (Path(__file__).parents[1] / "format_spec.md").read_text()


def example() -> bytes:
    section = SPEC[SPEC.index("## Example file") :]
    rows = re.findall(r"^    ((?:[0-9A-F]{2} ?)+)", section, re.MULTILINE)
    return bytes.fromhex("".join(rows))


def test_the_example_is_a_whole_file_that_decodes():
    data, model = example(), models.load(NIC_1)
    header = container.read_header(data)
    assert (header.width, header.height, header.quality_step) == (5, 3, 77)
    assert header.fingerprint == model.fingerprint
    # Checksums of the file and of its latents have to hold for that.
    assert codec.decode(data, model=model).pixels.shape == (3, 5, 3)


def test_limits_of_the_document_are_those_of_the_code():
    assert f"| width x height | 2^27 = {container.MAX_PIXELS} |" in SPEC
    assert f"more than 2^20 + {container.MAX_RATIO} n pixels" in SPEC
    assert f"| width, height | {container.MAX_SIDE} |" in SPEC
