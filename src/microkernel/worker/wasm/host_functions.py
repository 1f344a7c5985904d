"""Functions of ours for a guest, like wasmtime's ``LinkerInstance.add_func``, but faster.

``add_func`` asks the engine at each call for the function's types, which takes most of the call's time. Here they are
asked for once. The private parts of wasmtime used here are those that ``add_func`` itself uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, c_void_p, cast
from typing import Any, NamedTuple

from wasmtime import StoreContext, WasmtimeError, _ffi
from wasmtime.component import Component, FuncType, Linker, LinkerInstance, ValType
from wasmtime.component._enter import catch_exceptions

_NOTHING_TO_FREE = cast(0, CFUNCTYPE(None, c_void_p))


class FunctionType(NamedTuple):
    """Types of a function's parameters and result."""

    takes: list[ValType]
    gives: ValType | None


def import_types(component: Component, linker: Linker) -> dict[str, Any]:
    """Return the types of everything that a component imports, by name; for a function its FunctionType."""
    return {name: _type_of(each.ty) for name, each in component.type.imports(linker.engine).items()}


def _type_of(found: Any) -> Any:
    return FunctionType([taken for _, taken in found.params], found.result) if isinstance(found, FuncType) else found


def define_functions(
    linker: Linker, types: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> list[object]:
    """Define functions, each called with the guest's values alone. The returned objects must live as long as the
    instance."""
    with linker.root() as root:
        return [_add(root, name, types[name], function) for name, function in functions.items()]


def _add(root: LinkerInstance, name: str, kind: FunctionType, function: Callable[..., Any]) -> object:
    takes, gives = kind

    def called(_data: Any, context: Any, _type_of: Any, given: Any, _count: int, results: Any, _one: int) -> Any:
        def call(store: StoreContext) -> None:
            value = function(*[taken.convert_from_c(given[at]) for at, taken in enumerate(takes)])
            if gives is not None:
                gives.convert_to_c(store, value, results)

        return catch_exceptions(context, call)

    callback = _ffi.wasmtime_component_func_callback_t(called)
    encoded = name.encode()
    error = _ffi.wasmtime_component_linker_instance_add_func(
        root.ptr(), encoded, len(encoded), callback, None, _NOTHING_TO_FREE
    )
    if error:
        raise WasmtimeError._from_ptr(error)
    return callback
