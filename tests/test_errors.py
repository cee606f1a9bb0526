"""Errors cross process boundaries and tell the command line what to return."""

import pickle

import pytest

from nic import errors

EXAMPLES = [
    errors.NicError("any"),
    errors.InputError("no such folder"),
    errors.FormatError("cut short", 12),
    errors.ChecksumError("damaged"),
    errors.UnsupportedVersion("version 2.0"),
    errors.ModelMismatch(expected="00ff", found="ff00"),
    errors.LimitExceeded("too large"),
    errors.OutputError("exists"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_pickling_keeps_everything(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_kind_has_its_own_exit_code():
    kinds = {errors.NicError, *errors.NicError.__subclasses__()}
    assert kinds == {type(e) for e in EXAMPLES}
    assert sorted(kind.exit_code for kind in kinds) == list(range(1, 9))


def test_messages_name_the_offset_only_where_it_is_known():
    assert str(errors.FormatError("cut short", 12)) == "cut short (at byte 12)"
    assert str(errors.FormatError("cut short")) == "cut short"
