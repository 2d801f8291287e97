"""Versions of the API, and its history."""

import re
from itertools import product

import pytest

from sidecar.api import versions
from sidecar.api.operations import OPERATIONS
from sidecar.api.versions import API_VERSION, ApiVersion


def test_ten_is_more_than_nine() -> None:
    assert ApiVersion.parse("1.10") > ApiVersion.parse("1.9")
    assert str(ApiVersion.parse("1.10")) == "1.10"


@pytest.mark.parametrize(("served", "wanted"), [*product(["1.0", "1.2", "1.10", "2.0"], repeat=2)])
def test_the_same_major_and_no_higher_minor_is_served(served: str, wanted: str) -> None:
    one, other = ApiVersion.parse(served), ApiVersion.parse(wanted)
    expected = served[0] == wanted[0] and int(served.split(".")[1]) >= int(wanted.split(".")[1])
    assert one.serves(other) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "v1.2", "1.02", "+1.2", "1.\u0662", "1.2\n", "9999999.1"]
)
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected MAJOR\.MINOR"):
        ApiVersion.parse(text)


def test_the_history_names_every_operation_under_the_version_that_brought_it() -> None:
    history = (versions.__doc__ or "").partition("History")[2].partition("A minor adds")[0]
    lines = re.findall(r"^\* (\d+\.\d+) (.*?)(?=^\* |\Z)", history, re.MULTILINE | re.DOTALL)
    told = {name: version for version, text in lines for name in re.findall(r"``(\w+)``", text)}
    assert told == {name: str(operation.since) for name, operation in OPERATIONS.items()}
    assert lines[-1][0] == str(API_VERSION)
