"""``dataclass`` as in the standard library, but a class takes a third of the time to make.

The standard library compiles six methods for each class. Here only ``__init__`` is compiled, and the others are shared
functions. A kernel imports about fifty such classes, which took a third of its start. They are dataclasses in every
respect: ``fields``, ``replace``, ``asdict``, pickling, pattern matching, signatures. Not supported: order, ``InitVar``,
keyword-only fields, classes without slots, inheritance from one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter
    from reprlib import recursive_repr

    _MISSING = dataclasses.MISSING

    class _Factory:
        """The default of a parameter whose field has a factory, as the standard library shows it."""

        def __repr__(self):
            return "<factory>"

    def dataclass(*, slots, frozen=False, eq=True, repr=True, weakref_slot=False):
        """Return a decorator. The parameters are the standard library's; ``slots`` must be true."""
        if not slots:
            raise TypeError("slots=True is required")

        def decorate(cls):
            cls.__doc__ = cls.__doc__ or cls.__name__  # otherwise it is written from the signature, in 5 ms
            made = dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=True, weakref_slot=weakref_slot)
            made.__dataclass_params__.frozen = frozen
            fields = dataclasses.fields(made)
            made.__init__ = _init(made, fields, frozen)
            own = set(cls.__dict__)
            if repr and "__repr__" not in own:
                _add(made, "__repr__", _repr(fields))
            if eq:
                _add_comparison(made, fields, frozen, own)
            if frozen:
                _freeze(made, fields)
            return made

        return decorate

    def _add(made, name, function):
        function.__name__, function.__qualname__ = name, f"{made.__qualname__}.{name}"
        function.__module__ = made.__module__
        setattr(made, name, function)

    def _init(made, fields, frozen):
        scope = {"_set": object.__setattr__, "_factory": _Factory()}
        parameters, body = ["self"], [" pass"]
        for each in fields:
            name = value = each.name
            if not each.init:
                continue
            if each.default_factory is not _MISSING:
                scope[f"_make_{name}"] = each.default_factory
                parameters.append(f"{name}=_factory")
                value = f"_make_{name}() if {name} is _factory else {name}"
            elif each.default is not _MISSING:
                scope[f"_default_{name}"] = each.default
                parameters.append(f"{name}=_default_{name}")
            else:
                parameters.append(name)
            body.append(f" _set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
        if hasattr(made, "__post_init__"):
            body.append(" self.__post_init__()")
        exec("\n".join([f"def __init__({', '.join(parameters)}):", *body]), scope)
        init = scope["__init__"]
        init.__qualname__, init.__module__ = f"{made.__qualname__}.__init__", made.__module__
        init.__annotations__ = {each.name: each.type for each in fields if each.init} | {"return": None}
        return init

    def _repr(fields):
        names = [each.name for each in fields if each.repr]

        def text(self):
            shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            return f"{type(self).__qualname__}({shown})"

        return recursive_repr()(text)

    def _add_comparison(made, fields, frozen, own):
        values = attrgetter(*(each.name for each in fields if each.compare))

        def equals(self, other):
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        def hashed(self):
            return hash(values(self))

        if "__eq__" not in own:
            _add(made, "__eq__", equals)
        if "__hash__" not in own:
            if frozen:
                _add(made, "__hash__", hashed)
            else:
                made.__hash__ = None

    def _freeze(made, fields):
        names = [each.name for each in fields]

        def refuse_set(self, name, value):
            if type(self) is made or name in names:
                raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
            super(made, self).__setattr__(name, value)

        def refuse_delete(self, name):
            if type(self) is made or name in names:
                raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
            super(made, self).__delattr__(name)

        def state(self):
            return [getattr(self, name) for name in names]

        def restore(self, state):
            for name, value in zip(names, state, strict=True):
                object.__setattr__(self, name, value)

        _add(made, "__setattr__", refuse_set)
        _add(made, "__delattr__", refuse_delete)
        _add(made, "__getstate__", state)
        _add(made, "__setstate__", restore)
