"""Flax's dynamic context of a call: what intercepts and captures methods, and logical axes.

Flax keeps it in the thread. JAX may trace a forward or backward rule when the caller has left the
context (the gradient of a jitted function), or inside another one, so each run enters that of its
call.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.linen import module as linen_module
from flax.linen.module import Module

from vjpgen.runtime.modules import is_handled, method_context, unwrap_handler

Filter = Callable[[Module, str], bool]


@dataclasses.dataclass(frozen=True, eq=False)
class DynamicContext:
    """The context of one call.

    Args:
        interceptors: those of `nn.intercept_methods`, the outermost first.
        captures: the filter of `capture_intermediates`; False where nothing is captured.
        rules: the rules of `nn.logical_axis_rules`.
    """

    interceptors: tuple[Callable[..., Any], ...]
    captures: Filter | bool
    rules: Any

    @staticmethod
    def current() -> DynamicContext:
        """Return the context at the moment."""
        return DynamicContext(_interceptors(), _capture_filter(), nn.get_logical_axis_rules())

    def sealed(self, seal: Callable[[Any], Any]) -> DynamicContext:
        """Return the context with what `seal` gives for each interceptor."""
        interceptors = tuple(seal(interceptor) for interceptor in self.interceptors)
        return dataclasses.replace(self, interceptors=interceptors)

    @contextlib.contextmanager
    def entered(self, rebuild: Callable[[Any], Any]) -> Iterator[None]:
        """Put this context in the place of the one that there is.

        Args:
            rebuild: gives an interceptor anew, around values that it has captured.
        """
        before = DynamicContext.current()
        interceptors = [rebuild(interceptor) for interceptor in self.interceptors]
        changed = interceptors or before.interceptors
        captures = linen_module._context.capture_stack
        if changed:
            _set_interceptors(interceptors)
        captures.append(self.captures)
        try:
            if self.rules == before.rules:
                yield
            else:
                with nn.logical_axis_rules(self.rules):
                    yield
        finally:
            captures.pop()
            if changed:
                _set_interceptors(before.interceptors)


def is_observed(method: Any, module: Any) -> bool:
    """Tell whether calls of a module's method are intercepted or captured at the moment."""
    if not linen_module._global_interceptor_stack and not _capture_filter():
        return False
    return is_handled(method) and isinstance(module, Module) and module.scope is not None


def observe(method: Any, run: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
    """Intercept and capture a call of `method`, its rule inside, as Flax does without a rule.

    Args:
        method: the primal.
        run: takes its place.
        args, kwargs: of the call, the module first.
    """
    inner = unwrap_handler(method)
    module, *rest = args

    def call(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs)

    call.__name__ = name = inner.__name__
    with method_context(module, inner, setup=False):
        output = linen_module.run_interceptors(call, module, *rest, **kwargs)
        wanted = _capture_filter()
        if callable(wanted) and wanted(module, name):
            module.sow("intermediates", name, output)
    return output


def unobserved(method: Any, args: Sequence[Any], kwargs: Any) -> Any:
    """Call `method` as Flax does, less what `observe` has done around it."""
    inner = unwrap_handler(method)
    with method_context(args[0], inner):
        return inner(*args, **kwargs)


def profile_scope(name: str | None) -> contextlib.AbstractContextManager[Any]:
    """Name what JAX traces inside as Flax names a module's: nothing where Flax doesn't."""
    if name is None or not linen_module._use_named_call:
        return contextlib.nullcontext()
    return jax.named_scope(name)


def _interceptors() -> tuple[Callable[..., Any], ...]:
    return tuple(linen_module._global_interceptor_stack)[::-1]


def _set_interceptors(interceptors: Sequence[Callable[..., Any]]) -> None:
    stack = linen_module._global_interceptor_stack
    while stack:
        stack.pop()
    for interceptor in interceptors:
        stack.push(interceptor)


def _capture_filter() -> Filter | bool:
    stack = linen_module._context.capture_stack
    return stack[-1] if stack else False
