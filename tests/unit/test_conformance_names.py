"""Every behaviour that conformance asks for has a test that says so."""

from __future__ import annotations

import pytest
from tests.conformance.names import claims, conformance, table

COMPLETE = (  # areas in which every name has a test
    "API machinery",
    "Apps",
    "Architecture",
    "Auth",
    "CLI",
    "Instrumentation",
    "Network",
    "Node",
    "Scheduling",
    "Storage",
)


def test_the_table_has_all_462_behaviours() -> None:
    assert len(table()) == 462


@pytest.mark.parametrize("area", COMPLETE)
def test_every_behaviour_of_an_area_has_a_test(area: str) -> None:
    lacking = [str(x) for key, x in table().items() if x.area == area and key not in claims()]
    assert not lacking, f"{len(lacking)} without a test: {lacking}"


def test_no_test_claims_a_behaviour_that_is_not_in_the_table() -> None:
    unknown = {key: places for key, places in claims().items() if key not in table()}
    assert not unknown


def test_a_mark_with_a_misspelt_name_is_refused() -> None:
    mark = conformance  # by another name, so that it is no claim
    with pytest.raises(KeyError, match="no such behaviour"):
        mark("Deployment", "no such behaviour")
