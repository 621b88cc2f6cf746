"""The registry refuses what would surprise later, and says who did it."""

from __future__ import annotations

import pytest

from ort_quant_plugin.errors import PluginError
from ort_quant_plugin.plugins.registry import Entry, Kind, Owner, Registrar, Registry

MINE = Owner("mine", "ort-quant-mine", "1.2")
YOURS = Owner("yours")


def _problem(value: object) -> str | None:
    return None if isinstance(value, int) else "is no number"


@pytest.fixture
def registry() -> Registry[int]:
    return Registry(Kind("numbers", "number", _problem, options=("after",)))


def test_values_by_name_in_order_with_provenance(registry: Registry[int]):
    registry.add("two", 2, MINE, after=("one",))
    registry.add("one", 1, YOURS)
    assert dict(registry) == {"two": 2, "one": 1}
    assert list(registry) == ["two", "one"]
    assert registry.entries() == [Entry("two", 2, MINE, {"after": ("one",)}), Entry("one", 1, YOURS, {})]
    with pytest.raises(KeyError):
        registry["three"]


def test_duplicate_names_both_owners(registry: Registry[int]):
    registry.add("two", 2, MINE)
    with pytest.raises(PluginError) as caught:
        registry.add("two", 22, YOURS)
    assert caught.value.message == (
        "The number 'two' is registered twice: by plugin 'mine' (ort-quant-mine 1.2) and by plugin 'yours'; "
        "expected one owner."
    )
    assert (caught.value.details["owner"], caught.value.details["first_owner"]) == (YOURS, MINE)
    assert registry["two"] == 2


@pytest.mark.parametrize("name", ["Two", "2two", "_two", "two words", "two.three", "", "zwö", "two\n", 2, None])
def test_malformed_names_are_refused(registry: Registry[int], name: object):
    with pytest.raises(PluginError, match="malformed"):
        registry.add(name, 2, MINE)  # type: ignore[arg-type]
    assert not registry


@pytest.mark.parametrize("name", ["a", "two", "two-and_3"])
def test_good_names(registry: Registry[int], name: str):
    registry.add(name, 2, MINE)
    assert name in registry


def test_value_of_another_kind_is_refused(registry: Registry[int]):
    with pytest.raises(PluginError, match=r"The number 'two' of plugin 'yours' is no number\."):
        registry.add("two", "2", YOURS)  # type: ignore[arg-type]


def test_unknown_option_is_refused(registry: Registry[int]):
    with pytest.raises(PluginError, match="unknown option 'befor'; expected after"):
        registry.add("two", 2, MINE, befor=("one",))


@pytest.mark.parametrize("value", ["one", None, (1,)])
def test_option_that_is_no_tuple_of_names_is_refused(registry: Registry[int], value: object):
    """A bare string would be read as a tuple of letters."""
    with pytest.raises(PluginError, match="expected a tuple of names"):
        registry.add("two", 2, MINE, after=value)


def test_value_must_be_registered_under_its_own_name():
    class Named:
        name = "other"

    registry: Registry[Named] = Registry(Kind("things", "thing", lambda _: None, named=True))
    with pytest.raises(PluginError, match="calls itself 'other'; expected the name it is registered under"):
        registry.add("thing", Named(), MINE)


def test_withdraw_forgets_one_owner(registry: Registry[int]):
    registry.add("two", 2, MINE)
    registry.add("one", 1, YOURS)
    registry.withdraw(MINE)
    assert dict(registry) == {"one": 1}


def test_registrar_adds_under_its_owner(registry: Registry[int]):
    Registrar(registry, YOURS).add("one", 1, after=())
    assert registry.entries() == [Entry("one", 1, YOURS, {"after": ()})]
    assert registry.kind.hook == "ort_quant_register_numbers"
