"""Reading the pickled dictionaries in which CIFAR is published, without executing anything.

A pickle is a program for a small stack machine. Python's own machine calls whatever functions the program names;
even one that is restricted to numpy's functions would run native code with arguments of the file's choosing. The
machine here knows the instructions of which the published files consist, and treats every function call as a
symbol: it calls nothing and imports nothing. The only symbols that are given a meaning are those by which numpy
writes an array of unsigned bytes, and that array is made here, of the bytes in the file, after its shape was
compared with their number.

The files were written by Python 2 with protocol 2 (PEP 307); strings are bytes.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MalformedError", "read_pickle"]


class MalformedError(ValueError):
    """The bytes are no pickle of plain values and arrays of unsigned bytes, as Python 2 wrote them."""


@frozen
class _Function:
    """A function or class that the pickle names."""

    name: str  # "module name"


@define(eq=False)
class _Object:
    """What a call would have returned, with the state that would have been set on it."""

    function: Any
    arguments: Any
    state: Any = None


_MARK = object()
_RECONSTRUCT = tuple(
    _Function(f"{module}.multiarray _reconstruct") for module in ("numpy.core", "numpy._core")
)
_NDARRAY = _Function("numpy ndarray")
_DTYPE = _Function("numpy dtype")


def read_pickle(content: bytes) -> Any:
    """Return the value in a pickle: dictionaries, lists, tuples, integers, bytes, arrays of unsigned bytes.

    Raises
    ------
    MalformedError
        For a program that ends too early, goes on after its end, has instructions that none of the published
        files has, or calls anything but what makes an array of unsigned bytes.
    """
    machine = _Machine()
    try:
        for instruction, argument, position in pickletools.genops(content):
            if instruction.name == "STOP":
                if position != len(content) - 1:
                    raise MalformedError(f"goes on after its end at byte {position}")
                break
            machine.execute(instruction.name, argument)
        if len(machine.stack) != 1:
            raise MalformedError(f"ends with {len(machine.stack)} values instead of one")
        return _resolved(machine.stack[0])
    except MalformedError:
        raise
    # What genops and an ill-formed program's use of the stack raise.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedError(f"is no complete pickle ({error})") from error


@define
class _Machine:
    """The stack machine, with the instructions of the published files."""

    stack: list[Any] = field(factory=list)
    memo: dict[int, Any] = field(factory=dict)

    def execute(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _INTEGERS:
            self.stack.append(int(argument))
        elif name in ("SHORT_BINSTRING", "BINSTRING"):
            # genops reads the bytes of a Python 2 string as Latin-1, which is one to one.
            self.stack.append(argument.encode("latin-1"))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_Function(argument))
        elif name == "PROTO":
            if argument != 2:
                raise MalformedError(f"has protocol {argument}; the published files have 2")
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        else:
            raise MalformedError(f"has the instruction {name}, which none of the published files has")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise MalformedError("takes a value where there is none")
        return value

    def since_mark(self) -> list[Any]:
        """Take the values above the last mark off the stack, and the mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise MalformedError("takes values up to a mark that it has not set")

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise MalformedError(f"puts entries into a {type(value).__name__} as into a {kind.__name__}")
        return value

    def make_tuple(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def append(self) -> None:
        value = self.pop()
        self.top(list).append(value)

    def appends(self) -> None:
        values = self.since_mark()
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        self.top(dict).update(zip(values[::2], values[1::2], strict=True))

    def reduce(self) -> None:
        arguments = self.pop()
        self.stack.append(_Object(self.pop(), arguments))

    def build(self) -> None:
        state = self.pop()
        self.top(_Object).state = state


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine: machine.make_tuple(1),
    "TUPLE2": lambda machine: machine.make_tuple(2),
    "TUPLE3": lambda machine: machine.make_tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": lambda machine: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def _resolved(value: Any) -> Any:
    """Return `value` with the symbols for arrays replaced by arrays, one level deep, and no other symbol."""
    if type(value) is dict:
        return {key: _array(entry) if type(entry) is _Object else entry for key, entry in value.items()}
    return value


def _array(made: _Object) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the array of unsigned bytes for which a symbol stands.

    numpy pickles an array as ``_reconstruct(ndarray, (0,), "b")`` with the state (1, shape, dtype, whether
    columns come first, bytes), and the dtype of unsigned bytes as ``dtype("u1", 0, 1)``.
    """
    import numpy as np

    if made.function not in _RECONSTRUCT or made.arguments[0] != _NDARRAY:
        raise MalformedError(f"calls {getattr(made.function, 'name', made.function)!r}, which makes no array")
    _, shape, kind, columns_first, content = made.state
    unsigned = type(kind) is _Object and kind.function == _DTYPE and kind.arguments[0] == b"u1"
    if not unsigned or type(content) is not bytes:
        raise MalformedError("holds an array of something else than unsigned bytes")
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) != len(content):
        raise MalformedError(f"holds an array of shape {shape} in {len(content):,} bytes")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if columns_first else "C")
