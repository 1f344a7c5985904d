"""Find remains of ended instances of a plugin: ask their runners, report the remains, and return them."""

from __future__ import annotations

from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.reporting.journal import Journal


class LeakAuditor:
    """Audits ended instances. On a thread that may wait, and without a lock, because the mailbox belongs to the next
    generation by then."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def audit(self, record: PluginRecord) -> list[str]:
        """Return the remains of all ended generations, a line for each. Those that left nothing are not asked again."""
        left: dict[str, None] = {}
        for instance in list(record.previous_instances):
            audit = instance.runner.audit()
            for what in audit.undone:
                self._journal.announce("MK0303", "notice", record.name, what=what, generation=instance.generation)
            for what in audit.left:
                if what not in left:
                    self._journal.announce("MK0302", "warn", record.name, what=what, generation=instance.generation)
                left[what] = None
            if not audit.left and instance in record.previous_instances:
                record.previous_instances.remove(instance)
        return list(left)
