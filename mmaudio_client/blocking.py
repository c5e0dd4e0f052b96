"""Runs the client's coroutines without an event loop, and makes blocking methods of theirs.

With `BlockingDriver` a coroutine never suspends: one `send` runs it to its end.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")


def run_blocking(awaitable: Awaitable[T]) -> T:
    """Return the result of an awaitable whose steps block instead of suspending."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a step of a blocking call has suspended")


def iterate_blocking(values: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yield what an asynchronous generator yields; closing this one closes that one."""
    try:
        while True:
            try:
                value = run_blocking(anext(values))
            except StopAsyncIteration:
                return
            yield value
    finally:
        run_blocking(values.aclose())


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Return a method that calls `method` of the object's `_calls` and blocks until it is done."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_blocking(method(self._calls, *args, **kwargs))

    return _described(call, method, "Coroutine")


def blocking_iterator(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """Return a method that yields what the asynchronous generator `method` of the object's `_calls` yields."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        values = method(self._calls, *args, **kwargs)
        assert isinstance(values, AsyncGenerator), values
        return iterate_blocking(values)

    return _described(call, method, "AsyncIterator")


def _described(call: F, method: Callable[..., Any], asynchronous: str) -> F:
    """Give a method the signature that `help` and editors show."""
    function: Any = call
    del function.__wrapped__  # `inspect` would take the method for a coroutine
    signature = inspect.signature(method)
    returned = signature.return_annotation
    if isinstance(returned, str):
        returned = returned.replace(f"{asynchronous}[", "Iterator[")
    function.__signature__ = signature.replace(return_annotation=returned)
    return call
