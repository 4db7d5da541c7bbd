"""Pickles read without Python's unpickler: a stack machine that knows the few instructions that checkpoints use.

A pickle is a program. Python's unpickler runs it: it imports what the program names and calls it. Guarding that
machine means to trust every class that an allow list lets through, so this one has nothing to guard. It builds
numbers, text, bytes, tuples, lists, dicts and sets; a name in the file only selects one of *our* stand-ins from a
fixed table, and "calling" one runs the function of ours that stands there, which checks its arguments. There is no
import, getattr, ``__setstate__`` or call of anything that came from the file, so a name outside the table, or an
instruction outside ``_STEPS``, can only end in a refusal.

What a file can cost is bounded: instructions are counted, an instruction adds at most one container, text and bytes
are never longer than what is left of the file, and keys are of types whose hash is cheap and hard to collide.

Source: the instructions are those that the standard library's ``pickletools`` describes.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from selfloop.core.errors import quoted
from selfloop.interop.limits import Budget, Refusal, damaged, unsafe


@dataclass(frozen=True)
class Function:
    """Stand-in for a function: ours, given the budget and the arguments that the file holds."""

    call: Callable[[Budget, tuple[Any, ...]], object]


@dataclass(frozen=True)
class Class:
    """Stand-in for a class whose instances become :class:`Record`."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """An instance of some class, inert: the class's name and the instance's attributes."""

    name: str
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Number:
    """Stand-in for a NumPy dtype: how ``struct`` unpacks one number of it."""

    code: str


Vocabulary = Mapping[tuple[str, str], object]
"""(module, name) that a pickle may name → the stand-in."""

Persistent = Callable[[object], object]
"""What a persistent id stands for."""


def load(stream: io.BytesIO, vocabulary: Vocabulary, budget: Budget, persistent: Persistent | None = None) -> object:
    """Read one pickle from where the stream stands, to behind its last instruction.

    ``stream`` is in memory, so that a claim of 2⁶⁰ bytes reads what is there and no more.

    Raises:
        Refusal: the pickle is damaged, or has instructions or names that checkpoints do not need.
    """
    machine = _Machine(vocabulary, budget, persistent)
    size = size_of(stream)
    name, argument = _next(stream)
    if name != "PROTO" or argument > 5:
        raise damaged("it does not begin like a pickle of protocol 2 to 5")
    while name != "STOP":
        if name in _STEPS:
            _STEPS[name](machine, argument)
        elif name == "FRAME" and stream.tell() + argument > size:
            raise damaged("a frame of its pickle is cut short")
        budget.work()
        name, argument = _next(stream)
    return machine.result()


def size_of(stream: io.BytesIO) -> int:
    """Return how many bytes a stream has in all; its ``getbuffer`` would copy them."""
    where, end = stream.tell(), stream.seek(0, io.SEEK_END)
    stream.seek(where)
    return end


def _next(stream: io.BytesIO) -> tuple[str, Any]:
    """Return the next instruction and its argument, which is not even decoded for one we do not know."""
    where = stream.tell()
    code = stream.read(1)
    opcode = _CODES.get(code)
    if opcode is None:
        raise _unknown(code, where)
    try:
        if opcode.name == "GLOBAL":
            return opcode.name, (_line(stream), _line(stream))
        return opcode.name, None if opcode.arg is None else opcode.arg.reader(stream)
    except ValueError as error:  # what the readers raise, UnicodeDecodeError included
        raise damaged(f"{opcode.name} at byte {where}: {quoted(error, 120)}") from error


def _line(stream: io.BytesIO) -> str:
    """Return a line of plain ASCII; the reader of ``pickletools`` would decode escapes, which names have none of."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("no newline found")
    return line[:-1].decode("ascii")


def _unknown(code: bytes, where: int) -> Refusal:
    if not code:
        return damaged("its pickle ends early")
    names = [opcode.name for opcode in pickletools.opcodes if opcode.code.encode("latin-1") == code]
    if names and where:
        return unsafe(f"has the pickle instruction {names[0]} at byte {where}")
    return damaged(f"byte {where} is not an instruction of a pickle of protocol 2 to 5")


def key(value: object) -> Any:
    """Return a value that may be a dict's key or a set's element: text, or an integer below 2³¹.

    Tuples could nest so that hashing takes for ever, and large integers be chosen to collide.
    """
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**31):
        return value
    raise unsafe(f"has a key of type {type(value).__name__} or beyond 2³¹")


class _Machine:
    """The stack, the positions marked on it, and the memo of values to be used again."""

    def __init__(self, vocabulary: Vocabulary, budget: Budget, persistent: Persistent | None) -> None:
        self._vocabulary = vocabulary
        self._budget = budget
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> object:
        value = self.pop()
        if self._stack or self._marks:
            raise damaged("its pickle ends with values left over")
        return value

    def push(self, value: object) -> None:
        self._stack.append(value)

    def top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise damaged("its pickle uses a value that is not there")
        return self._stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self._stack.pop()
        return value

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def marked(self) -> list[Any]:
        """Take the values above the last mark, and the mark."""
        if not self._marks:
            raise damaged("its pickle closes what it did not open")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def last(self, count: int) -> list[Any]:
        """Take ``count`` values."""
        return [self.pop() for _ in range(count)][::-1]

    def _open(self, kind: type) -> Any:
        target = self.top()
        if type(target) is not kind:
            raise unsafe(f"fills a {type(target).__name__} like a {kind.__name__}")
        return target

    def extend(self, values: list[Any]) -> None:
        self._open(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise damaged("a dict of its pickle has a key without a value")
        target = self._open(dict)
        for name, value in zip(values[::2], values[1::2], strict=True):
            target[key(name)] = value

    def add_items(self, values: list[Any]) -> None:
        self._open(set).update(key(value) for value in values)

    def put(self, index: int | None = None) -> None:
        self._memo[len(self._memo) if index is None else index] = self.top()

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise damaged(f"its pickle uses value {index}, which it has not made")
        self.push(self._memo[index])

    def name(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise unsafe("names something by what is no text")
        if (module, name) not in self._vocabulary:
            raise unsafe(f"asks for {quoted(f'{module[:60]}.{name[:60]}', 124)}")
        self.push(self._vocabulary[module, name])

    def reduce(self, function: object, arguments: object) -> None:
        if not (isinstance(function, Function) and isinstance(arguments, tuple)):
            raise unsafe(f"calls a {type(function).__name__} with a {type(arguments).__name__}")
        self.push(function.call(self._budget, arguments))

    def new(self, kind: object, arguments: object) -> None:
        if not isinstance(kind, Class) or not isinstance(arguments, tuple) or arguments:
            raise unsafe(f"makes an instance of a {type(kind).__name__} with a {type(arguments).__name__}")
        self.push(Record(kind.name))

    def build(self, state: object) -> None:
        """Give an object its attributes: kept for a record, passed over for a dict (torch's ``_metadata``)."""
        match self.top(), state:
            case Record() as target, dict():
                target.state = state
            case Record(name="numpy.ndarray") as target, tuple():
                target.state = {"state": state}
            case dict(), dict():
                pass
            case Number(), (3, "<" | "|", None, None, None, -1, -1, 0):  # nothing but the order of bytes
                pass
            case target, _:
                raise unsafe(f"sets the state of a {type(target).__name__} from a {type(state).__name__}")

    def refer(self, identity: object) -> None:
        if self._persistent is None:
            raise unsafe("refers to data outside of its pickle")
        self.push(self._persistent(identity))


_Step = Callable[[_Machine, Any], None]


def _all(names: str, step: _Step) -> dict[str, _Step]:
    return dict.fromkeys(names.split(), step)


_STEPS: dict[str, _Step] = {
    "PROTO": lambda machine, _: None,
    "MARK": lambda machine, _: machine.mark(),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **_all("BININT BININT1 BININT2 LONG1 BINFLOAT", lambda machine, number: machine.push(number)),
    **_all("BINUNICODE SHORT_BINUNICODE BINUNICODE8", lambda machine, text: machine.push(text)),
    **_all("BINSTRING SHORT_BINSTRING", lambda machine, text: machine.push(text)),  # of Python 2, as Latin-1
    **_all("BINBYTES SHORT_BINBYTES BINBYTES8", lambda machine, content: machine.push(content)),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.marked()),
    "MEMOIZE": lambda machine, _: machine.put(),
    **_all("BINPUT LONG_BINPUT", lambda machine, index: machine.put(index)),
    **_all("BINGET LONG_BINGET", lambda machine, index: machine.get(index)),
    "GLOBAL": lambda machine, names: machine.name(*names),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.last(2)),
    "REDUCE": lambda machine, _: machine.reduce(*machine.last(2)),
    "NEWOBJ": lambda machine, _: machine.new(*machine.last(2)),
    "BUILD": lambda machine, _: machine.build(machine.pop()),
    "BINPERSID": lambda machine, _: machine.refer(machine.pop()),
}

_CODES = {
    opcode.code.encode("latin-1"): opcode
    for opcode in pickletools.opcodes
    if opcode.name in _STEPS or opcode.name in ("STOP", "FRAME")
}
