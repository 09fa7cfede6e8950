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
import struct
from collections.abc import Callable, Iterator
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
        for code, argument, end in _instructions(content):
            if code == _STOP:
                if end != len(content):
                    raise MalformedError(f"goes on after its end at byte {end}")
                break
            machine.execute(code, argument)
        if len(machine.stack) != 1:
            raise MalformedError(f"ends with {len(machine.stack)} values instead of one")
        return _resolved(machine.stack[0])
    except MalformedError:
        raise
    # What an ill-formed program does to the stack and the memo, and to an array.
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise MalformedError(f"is no complete pickle ({error})") from error


_STOP = ord(".")
#: Instructions with an argument of fixed size, and its format.
_FIXED = {ord(code): struct.Struct(f"<{kind}") for code, kind in zip("KMJqrhj\x80", "BHiBIBIB", strict=True)}
#: Instructions with bytes as their argument, and the format of the number of these.
_COUNTED = {ord("U"): struct.Struct("<B"), ord("T"): struct.Struct("<i"), 0x8A: struct.Struct("<B")}
_GLOBAL = ord("c")


def _instructions(content: bytes) -> Iterator[tuple[int, Any, int]]:
    """Yield the code of each instruction, its argument, and where it ends."""
    at = 0
    while at < len(content):
        code, at = content[at], at + 1
        argument: Any = None
        if code in _FIXED:
            (argument,) = _unpacked(_FIXED[code], content, at)
            at += _FIXED[code].size
        elif code in _COUNTED:
            (count,) = _unpacked(_COUNTED[code], content, at)
            at += _COUNTED[code].size
            if not 0 <= count <= len(content) - at:
                raise MalformedError(f"ends inside of a string at byte {len(content)}")
            argument = content[at : at + count]
            at += count
        elif code == _GLOBAL:
            lines = []
            for _ in range(2):
                end = content.find(b"\n", at)
                if end < 0:
                    raise MalformedError(f"ends inside of a name at byte {len(content)}")
                lines.append(content[at:end].decode("latin-1"))
                at = end + 1
            argument = " ".join(lines)
        yield code, argument, at
    raise MalformedError(f"ends without an instruction to stop at byte {len(content)}")


def _unpacked(kind: struct.Struct, content: bytes, at: int) -> tuple[Any, ...]:
    if at + kind.size > len(content):
        raise MalformedError(f"ends inside of an instruction at byte {len(content)}")
    return kind.unpack_from(content, at)


@define
class _Machine:
    """The stack machine, with the instructions of the published files (PEP 307, and Python's pickletools)."""

    stack: list[Any] = field(factory=list)
    memo: dict[int, Any] = field(factory=dict)

    def execute(self, code: int, argument: Any) -> None:
        name = chr(code)
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in "KMJUT":  # integers and strings
            self.stack.append(argument)
        elif name == "\x8a":  # a longer integer
            self.stack.append(int.from_bytes(argument, "little", signed=True))
        elif name in "qr":
            self.memo[argument] = self.stack[-1]
        elif name in "hj":
            self.stack.append(self.memo[argument])
        elif name == "c":
            self.stack.append(_Function(argument))
        elif name == "\x80":
            if argument != 2:
                raise MalformedError(f"has protocol {argument}; the published files have 2")
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        else:
            raise MalformedError(f"has the instruction {name!r}, which none of the published files has")

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
    "N": lambda: None,
    "\x88": lambda: True,
    "\x89": lambda: False,
    "}": dict,
    "]": list,
    ")": tuple,
    "(": lambda: _MARK,
}
_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "t": lambda machine: machine.stack.append(tuple(machine.since_mark())),
    "\x85": lambda machine: machine.make_tuple(1),
    "\x86": lambda machine: machine.make_tuple(2),
    "\x87": lambda machine: machine.make_tuple(3),
    "a": _Machine.append,
    "e": _Machine.appends,
    "s": lambda machine: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "u": lambda machine: machine.set_items(machine.since_mark()),
    "R": _Machine.reduce,
    "b": _Machine.build,
}


def _resolved(value: Any) -> Any:
    """Return `value` with the symbols for arrays, which are entries of a dictionary, replaced by arrays."""
    if type(value) is dict:
        value = {key: _array(entry) if type(entry) is _Object else entry for key, entry in value.items()}
    # Values may hold each other, also in circles: every one is looked at once.
    seen: set[int] = set()
    ahead = [value]
    while ahead:
        entry = ahead.pop()
        if type(entry) in (_Object, _Function):
            raise MalformedError(f"{_called(entry)} where a plain value should be")
        if type(entry) in (dict, list, tuple) and id(entry) not in seen:
            seen.add(id(entry))
            ahead += [*entry.keys(), *entry.values()] if type(entry) is dict else entry
    return value


def _called(symbol: _Object | _Function) -> str:
    """Say what a symbol stands for."""
    if isinstance(symbol, _Function):
        return f"names {symbol.name!r}"
    function = symbol.function
    return f"calls {function.name!r}" if isinstance(function, _Function) else "calls a value"


def _array(made: _Object) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the array of unsigned bytes for which a symbol stands.

    numpy pickles an array as ``_reconstruct(ndarray, (0,), "b")`` with the state (1, shape, dtype, whether
    columns come first, bytes), and the dtype of unsigned bytes as ``dtype("u1", 0, 1)``.
    """
    import numpy as np

    if made.function not in _RECONSTRUCT or made.arguments[0] != _NDARRAY:
        raise MalformedError(f"{_called(made)}, which makes no array of bytes")
    _, shape, kind, columns_first, content = made.state
    unsigned = type(kind) is _Object and kind.function == _DTYPE and kind.arguments[0] == b"u1"
    if not unsigned or type(content) is not bytes:
        raise MalformedError("holds an array of something else than unsigned bytes")
    if not all(type(size) is int and 0 <= size <= len(content) for size in shape):
        raise MalformedError("holds an array whose shape is no list of sizes")
    if math.prod(shape) != len(content):
        raise MalformedError(f"holds an array of shape {tuple(shape)} in {len(content):,} bytes")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if columns_first else "C")
