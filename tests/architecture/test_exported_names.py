"""One list is the public interface; nothing is public by accident."""

from __future__ import annotations

import importlib
import inspect

import pytest

import leanmq_topology
from leanmq_topology import errors


def test_every_public_name_resolves():
    for name in leanmq_topology.__all__:
        assert getattr(leanmq_topology, name) is not None


def test_the_list_is_sorted_and_has_no_duplicates():
    names = leanmq_topology.__all__
    assert list(names) == sorted(set(names))


def test_lazy_homes_and_the_public_list_name_the_same_things():
    assert sorted(leanmq_topology._HOME_OF) == list(leanmq_topology.__all__)


def test_every_error_is_public_and_ends_in_error():
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert name.endswith("Error")
            assert name in leanmq_topology.__all__


def test_the_error_tree_in_the_docstring_is_complete():
    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert name in drawn, f"{name} is not drawn in the error tree"


def test_an_unknown_name_is_an_attribute_error():
    module = importlib.import_module("leanmq_topology")
    with pytest.raises(AttributeError, match="Nonsense"):
        module.Nonsense  # noqa: B018  the access is the test
