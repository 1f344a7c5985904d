"""Reload on save: watches the sources of the kernel's plugins. An ordinary plugin that uses only the public SDK.

In `mk run` it runs at the level thread. Its permissions come from the grant ``kernel.control``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from microkernel import IPlugin, PluginAPI
from microkernel.errors import CallTimeout, KernelError, PluginNotActive, valid_text

from . import rules
from .debounce import ChangeDebouncer
from .files import FileDigests, Survey, aliases, real, survey
from .reload_queue import ReloadQueue
from .rules import Plugin as Known

if TYPE_CHECKING:
    from .notifier import Notifier

# Timeout in seconds for operations that wait for a plugin's own deadlines.
_LONG = 120.0
# Seconds of quiet before new plugins are searched for, because a folder is rarely written in one step.
_QUIET = 0.1
# Seconds before a retry after an error of the kernel or the system.
_PAUSE = 1.0
# Seconds before folders that could not be watched are retried.
_AGAIN = 10.0
# A plugin that is reloaded more often than this number within this number of seconds, only for data files, seems to
# write them itself.
_MOST, _WITHIN = 10, 10.0


@dataclass(frozen=True, slots=True)
class _Sources:
    places: list[Any]
    plugins: list[Known]


class Plugin(IPlugin):
    """Reloads plugins whose files are saved, and loads new ones."""

    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        self._wake = threading.Event()
        self._digests = FileDigests()
        self._debouncer = ChangeDebouncer(self._digests)
        self._survey = Survey()
        self._reload_queue = ReloadQueue()
        self._homes: dict[str, str] = {}
        self._names: set[str] = set()
        # Plugins saved while their state was changing. What to do is decided when the change is complete.
        self._waiting: set[str] = set()
        self._missing: set[str] = set()
        self._muted: set[str] = set()
        # Stopped plugins whose save was reported. Each is reported once until it runs again.
        self._reported: set[str] = set()
        self._moments: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_MOST))
        self._new_at: float | None = None
        self._complaint = ""
        api.on("kernel.state", self._state, overflow="drop_oldest")

    def start(self) -> None:
        """Record the present files before any plugin runs, so that files saved while the library is being loaded count
        as changed."""
        self._survey = _survey(self._sources().places, ())
        for path in self._survey.files():
            self._digests.record(path)
        self.api.spawn(self._watch)

    def stop(self) -> None:
        self._wake.set()

    def _state(self, plugin: str) -> None:
        if plugin not in self._names or plugin in self._waiting or plugin in self._reported:
            self._wake.set()

    def _sources(self) -> _Sources:
        return self.api.call("kernel.sources", returns=_Sources)

    # Watching: one thread

    def _watch(self) -> None:
        from .notifier import Notifier  # takes a fifth of a second on a slow machine, in the background

        notifier = Notifier(self._wake)
        self._wake.set()
        try:
            while self.api.is_active:
                try:
                    self._turn(notifier)
                except (KernelError, OSError) as error:
                    self.api.log.warning("%s", error)
                    self._wake.set()
                    self.api.sleep(_PAUSE)
        finally:
            notifier.close()

    def _turn(self, notifier: Notifier) -> None:
        paths = notifier.wait(self._due(time.monotonic()))
        if not self.api.is_active:
            return
        woken = self._wake.is_set()
        self._wake.clear()
        self._debouncer.add(filter(self._survey.is_relevant, paths))
        if woken or self._complaint or any(map(self._is_folder, paths)):
            self._survey_sources(notifier, paths)
        self._settle(time.monotonic())

    def _due(self, now: float) -> float | None:
        due = [self._debouncer.due, None if self._new_at is None else max(0.001, self._new_at - now)]
        due.append(_AGAIN if self._complaint else None)
        return min((each for each in due if each is not None), default=None)

    def _is_folder(self, path: str) -> bool:
        if path in self._survey.folders or os.path.isdir(path):
            return True
        return not os.path.lexists(path) and bool(self._digests.below(path))

    def _survey_sources(self, notifier: Notifier, paths: set[str]) -> None:
        """Find out where the plugins are now, and check folders that were not known before."""
        sources = self._sources()
        plugins = self._know(sources)
        before, self._survey = self._survey, _survey(sources.places, plugins)
        anew = any(path in before.folders for path in paths)
        self._aim(notifier, anew)
        self._catch_up(before, paths)
        self._queue_reloads(name for name in list(self._waiting) if _state_of(name, plugins) != "wait")

    def _know(self, sources: _Sources) -> list[Known]:
        plugins = [plugin for plugin in sources.plugins if not plugin.built_in]
        self._names = {plugin.name for plugin in sources.plugins}
        self._reported -= {plugin.name for plugin in plugins if plugin.state != "stopped"}
        self._homes = {alias: plugin.name for plugin in plugins for alias in aliases(os.fsdecode(plugin.path))}
        return plugins

    def _aim(self, notifier: Notifier, anew: bool) -> None:
        try:
            notifier.watch_folders(self._survey.folders, anew=anew)
            self._complaint = ""
        except FileNotFoundError:
            self._wake.set()  # a folder was just removed: check again
        except OSError as error:
            complaint = f"{error.strerror or error}".lower()
            if complaint != self._complaint:
                self._announce("MK0307", "", reason=complaint)
            self._complaint = complaint

    def _catch_up(self, before: Survey, paths: set[str]) -> None:
        """Check for changes while nothing was watched: waking the notifier discards the changes it has collected."""
        self._debouncer.add(self._digests.known())
        roots = tuple(root + os.sep for root in {*map(os.path.dirname, paths), *before.folders})
        fresh = [path for path in self._survey.files() if path not in self._digests]
        self._debouncer.add(path for path in fresh if path.startswith(roots))
        self._record_foreign([path for path in fresh if not path.startswith(roots)])

    def _record_foreign(self, paths: Sequence[str]) -> None:
        """Record files of plugins from elsewhere. One counts as changed only if the kernel has read another content."""
        owners = self._owners(paths)
        read: dict[str, str] = {}
        for name in set(owners.values()) - {""}:
            found = self.api.call("kernel.source", name, returns=dict[Any, str])
            read |= {real(os.fsdecode(path)): digest for path, digest in found.items()}
        for path in paths:
            self._digests.record(path)
            if read.get(real(path), "") not in ("", self._digests.digest(path)):
                self._digests.forget(path)
                self._debouncer.add((path,))

    # Deciding

    def _settle(self, now: float) -> None:
        settled = self._debouncer.settle(now)
        changed = self._owners(settled.changed)
        self._missing = set(filter(self._lost_home, self._missing))
        names = {name for path, name in changed.items() if name and self._counts(path, name, now)}
        if any(not name and _is_something(path) for path, name in changed.items()):
            self._new_at = now + _QUIET
        elif self._new_at is not None and now >= self._new_at:
            self._new_at = None
            self.api.spawn(self._in_background, self._discover)
        names |= self._gone(settled.gone)
        self._queue_reloads(names)

    def _owners(self, paths: Iterable[str]) -> dict[str, str]:
        """Return the owners of changed files. The kernel is asked for new plugins before a file counts as unowned."""
        owners = {path: rules.owner(path, self._homes) for path in paths}
        if not all(owners.values()):
            self._know(self._sources())
            owners = {path: rules.owner(path, self._homes) for path in owners}
        return owners

    def _counts(self, path: str, name: str, now: float) -> bool:
        """Return whether a change counts. A plugin that writes data next to its source would be reloaded
        forever."""
        if rules.is_source(path) or name in self._muted:
            return rules.is_source(path)
        moments = self._moments[name]
        moments.append(now)
        if rules.too_often(moments, _MOST, _WITHIN):
            self._muted.add(name)
            self._announce("MK0309", name, path=os.path.dirname(path))
            return False
        return True

    def _gone(self, paths: Iterable[str]) -> set[str]:
        """Handle removed files: reload plugins that lost part of their source, and report those that lost all of it."""
        reduced = set()
        for path in paths:
            name = rules.owner(path, self._homes)
            home = self._lost_home(name)
            if home and name not in self._missing:
                self._missing.add(name)
                self._lose(name, home)
            if not home:
                self._digests.forget(path)
                reduced.add(name)
        return reduced - {""}

    def _lose(self, name: str, home: str) -> None:
        """Handle a lost source. A running plugin continues from the source that was read; a failed one is unloaded."""
        if self.api.call("kernel.info", name)["state"] == "failed":
            self.api.call("kernel.unload", name)
        else:
            self._announce("MK0306", name, path=home)

    def _lost_home(self, name: str) -> str:
        """Return where the plugin's source was if it no longer exists, otherwise an empty string."""
        return next((home for home, whose in self._homes.items() if whose == name and not os.path.exists(home)), "")

    def _announce(self, id: str, plugin: str, **fields: str) -> None:
        shown = {key: valid_text(value) for key, value in fields.items()}
        self.api.call("kernel.announce", id, plugin, shown)

    # Reloading, in the background, so that a slow plugin does not delay the others

    def _queue_reloads(self, names: Iterable[str]) -> None:
        requested = set(names)
        if not requested:
            return
        self._waiting -= requested
        now = self._reload_queue.begin(rules.in_order(requested, self._sources().plugins))
        if now:
            self.api.spawn(self._in_background, self._reload_all, now)

    def _in_background(self, work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except KernelError as error:
            if self.api.is_active:
                self.api.log.warning("%s", error)

    def _reload_all(self, names: Sequence[str]) -> None:
        for name in names:
            while True:
                self._reload(name)
                if not self._reload_queue.again(name):
                    break
        self._queue_reloads(rules.unblocked_by(names, self._sources().plugins))

    def _reload(self, name: str) -> None:
        """Reload or start a plugin. The kernel reports failures."""
        try:
            match _state_of(name, self._sources().plugins):
                case "reload":
                    self.api.call("kernel.reload", name, "active", timeout=_LONG)
                case "start":
                    self.api.call("kernel.start", name, True, timeout=_LONG)
                case "wait":
                    self._wait_for(name)
                case "report" if name not in self._reported:
                    self._reported.add(name)
                    self._announce("MK0315", name, name=name)
        except PluginNotActive:
            self._wait_for(name)
        except CallTimeout as error:
            self.api.log.warning("%s: %s", name, error)
        except KernelError:
            return

    def _wait_for(self, name: str) -> None:
        self._waiting.add(name)
        self._wake.set()

    def _discover(self) -> None:
        names = self.api.call("kernel.discover", timeout=_LONG, returns=list[str])
        self._queue_reloads(rules.unblocked_by(names, self._sources().plugins))


def _state_of(name: str, plugins: Iterable[Known]) -> rules.Action:
    return next((rules.action_for(plugin.state) for plugin in plugins if plugin.name == name), "leave")


def _survey(places: Iterable[str | bytes], plugins: Iterable[Known]) -> Survey:
    return survey(map(os.fsdecode, places), [os.fsdecode(plugin.path) for plugin in plugins])


def _is_something(path: str) -> bool:
    """Return whether the file may contain a plugin already. An empty file is about to be written."""
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False
