"""What is asked for, what was approved, and the difference: pure."""

from __future__ import annotations

import pytest

from microkernel.kernel.admission import permissions
from microkernel.kernel.admission.permissions import of_fields
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval, Permissions
from microkernel.kernel.ports import Snapshot


def missing(asked: dict[str, list[str]], approved: dict[str, list[str]], name: str = "mailer") -> list[str]:
    return [*permissions.lines(permissions.missing(permissions.requested(name, of_fields(asked)), of_fields(approved)))]


def test_unapproved_requests_are_missing() -> None:
    asked = {"net": ["smtp.example.com:587", "api.example.com:443"], "call": ["billing.total"]}
    assert missing(asked, {"net": ["api.example.com:443"]}) == ["call billing.total", "net smtp.example.com:587"]
    assert missing(asked, asked) == []


def test_requests_within_the_approval_are_not_missing() -> None:
    assert missing({"net": ["a:1"]}, {"net": ["a:1", "b:2"], "env": ["X"]}) == []


def test_a_pattern_covers_narrower_ones_and_no_wider() -> None:
    assert missing({"emit": ["order.created", "order.*"]}, {"emit": ["order.**"]}) == []
    assert missing({"emit": ["order.**"]}, {"emit": ["order.*"]}) == ["emit order.**"]


@pytest.mark.parametrize("kind", ["net", "fs.read", "fs.write", "env"])
def test_external_permissions_are_covered_only_exactly(kind: str) -> None:
    """A path below an approved one may be a link to anywhere by now."""
    assert missing({kind: ["/srv/a", "*"]}, {kind: ["/srv", "**"]}) == [f"{kind} /srv/a", f"{kind} *"]


def test_control_is_also_observe() -> None:
    assert missing({"kernel": ["observe"]}, {"kernel": ["control"]}) == []
    assert missing({"kernel": ["control"]}, {"kernel": ["observe"]}) == ["kernel control"]


def test_own_names_need_no_request() -> None:
    own = {"emit": ["mailer.*"], "data.read": ["mailer.x"], "data.write": ["mailer.**"], "on": ["mailer.*"]}
    assert missing(own, {}) == ["on mailer.*"]
    assert missing({"emit": ["mailer2.*"]}, {}) == ["emit mailer2.*"]


def test_request_for_everything_is_covered_only_by_everything() -> None:
    everything = Permissions()
    wished = permissions.requested("p", everything)
    assert permissions.lines(permissions.missing(wished, NO_PERMISSIONS))[0] == "emit **"
    assert permissions.missing(wished, everything) == ()
    assert permissions.missing([("emit", "a.b"), ("call", "b.c")], everything) == ()
    assert permissions.missing([("net", "a:1")], everything) == (("net", "a:1"),)


def test_several_grants_of_the_operator_are_combined() -> None:
    total = permissions.union(
        [of_fields({"net": ["a:1"]}), of_fields({"net": ["b:2", "a:1"]}), of_fields({"emit": None})]
    )
    assert (total.net, total.emit, total.call) == (("a:1", "b:2"), None, ())


def test_without_a_table_nothing_is_declared_at_a_confined_level() -> None:
    assert permissions.confined(None, ["declared"]) == NO_PERMISSIONS
    assert permissions.confined(None, [of_fields({"net": ["a:1"]})]).net == ("a:1",)
    assert permissions.trusted(None, "declared") == permissions.trusted(None, None) == Permissions()


def test_approved_but_undeclared_permissions_are_not_granted() -> None:
    assert permissions.confined(of_fields({"net": ["a:1"]}), [of_fields({"net": ["a:1", "b:2"]})]).net == ("a:1",)


def test_files_that_changed_are_named() -> None:
    now = Snapshot("/p", "a.py", False, {}, "new", {"a.py": "1", "b.txt": "2", "d": "4"})
    before = Approval("1.0", "old", NO_PERMISSIONS, {"a.py": "1", "b.txt": "1", "c": "3"})
    assert permissions.is_altered(now, "1.0", before)
    assert not permissions.is_altered(now, "1.1", before)
    assert permissions.changed_files(now, before) == ("b.txt", "c", "d")
    assert permissions.changed_files(now, Approval("1.0", "old", NO_PERMISSIONS)) == ()
