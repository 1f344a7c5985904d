"""Arguments of an embedding program: a grant in a wrong form must not become a wider one."""

from __future__ import annotations

from typing import Any

import pytest

from microkernel.errors import ConfigError
from microkernel.kernel.manifest import Permissions
from microkernel.loader.embedding_args import read_grants


def test_a_table_names_what_is_given_and_nothing_else() -> None:
    for srv in (["/srv"], ("/srv",)):
        given = read_grants({"p": {"fs.read": srv}})["p"]
        assert given == Permissions((), (), (), (), (), fs_read=("/srv",))
    assert read_grants({"p": "declared", "q": Permissions()}) == {"p": "declared", "q": Permissions()}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"fs.read": "/srv"}, "grants: p.fs.read must be a list of texts, got the text '/srv'"),
        ({"emit": "order.*"}, "grants: p.emit must be a list of patterns"),
        ({"net": None}, "grants: p.net must be a list of addresses"),
        ({"emit": [3]}, "grants: p.emit[0] must be a text that is not empty, got the number 3"),
        ({"emt": []}, "did you mean 'p.emit'?"),
        (3, 'grants: p must be a table of permissions, Permissions, or "declared", got the number 3'),
        ("all", "got the text 'all'"),
        (object(), "got a value of the type object"),
    ],
)
def test_another_form_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_grants({"p": given})
    assert told in str(refused.value)


def test_permissions_of_a_text_are_refused_where_they_are_made() -> None:
    """Otherwise each of its letters would be a path, and the first of "/srv" is the whole disk."""
    with pytest.raises(ConfigError, match="fs_read must be a tuple of texts, got the text '/srv'"):
        Permissions(fs_read="/srv")  # type: ignore[arg-type]
