"""Mends Triton's interpreter: kernels in bf16 and with inline assembly can be tested without a GPU.

`install()` before a kernel runs. Of the interpreter of Triton 3.7 (TRITON_INTERPRET=1) it replaces
- inline assembly, which raises: straight-line PTX on 32-bit registers runs in NumPy, elements packed as on a GPU. An
  instruction that is not known here is an error;
- `tl.dot` of bf16, which multiplies the bits as integers;
- casts between fp32 and bf16, which truncate where a GPU rounds to the nearest;
- arithmetic in bf16, which adds bits.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

U32 = np.uint32
_NIBBLES = np.array([0, 4, 8, 12], U32)


def _prmt(a: Any, b: Any, selectors: Any) -> Any:
    """A selector is four bits for each byte: three choose one of the eight bytes of a and b, the fourth its sign."""
    source = np.concatenate(np.broadcast_arrays(_bytes(a), _bytes(b)), -1)
    chosen = (selectors[:, None] >> _NIBBLES) & U32(15)
    byte = source[..., chosen[0] & 7] if len(chosen) == 1 else _take(source, chosen & 7)
    sign = (chosen & 8) > 0
    return np.ascontiguousarray(np.where(sign, byte // 128 * 255, byte), np.uint8).view(U32)[:, 0]


def _bytes(registers: Any) -> Any:
    return np.ascontiguousarray(registers).view(np.uint8).reshape(-1, 4)


def _take(source: Any, places: Any) -> Any:
    return source[0][places] if len(source) == 1 else np.take_along_axis(source, places.astype(np.int64), -1)


def _lop3(a: Any, b: Any, c: Any, table: Any) -> Any:
    """Any function of three bits, as an exclusive or of products (its algebraic normal form)."""
    terms = [int(table[0]) >> i & 1 for i in range(8)]
    for step in (1, 2, 4):
        terms = [term ^ (terms[i - step] if i & step else 0) for i, term in enumerate(terms)]
    out = U32(0xFFFFFFFF if terms[0] else 0)
    for i in range(1, 8):
        if terms[i]:
            out = out ^ functools.reduce(np.bitwise_and, [x for x, bit in ((a, 4), (b, 2), (c, 1)) if i & bit])
    return out


def _fma_bf16x2(a: Any, b: Any, c: Any) -> Any:
    halves = []
    for shift in (0, 16):
        x, y, z = (((each >> U32(shift)) << U32(16)).view(np.float32).astype(np.float64) for each in (a, b, c))
        halves.append(to_bf16((x * y + z).astype(np.float32)))
    return halves[0] | (halves[1] << U32(16))


def to_bf16(x: Any) -> Any:
    """float32 → the bits of the nearest bf16, ties to even, in 32 bits."""
    bits = x.view(U32)
    return (bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)


def from_bf16(bits: Any) -> Any:
    """16 bits → float32."""
    return (bits.astype(U32) << U32(16)).view(np.float32)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "mov.b32": lambda a: a,
    "mov.u32": lambda a: a,
    "and.b32": np.bitwise_and,
    "xor.b32": np.bitwise_xor,
    "shl.b32": np.left_shift,
    "shr.u32": np.right_shift,
    "prmt.b32": _prmt,
    "lop3.b32": _lop3,
    "fma.rn.bf16x2": _fma_bf16x2,
}


@functools.cache
def _program(assembly: str) -> list[tuple[Callable[..., Any], str, list[Any]]]:
    """The statements (operation, to, sources) that depend on an input. A source is a register or its constant value."""
    statements: list[tuple[Callable[..., Any], str, list[Any]]] = []
    constants: dict[str, Any] = {}

    def source(text: str) -> Any:
        if text.startswith("%"):  # thread 0 of a grid of one layer
            text = "0"
        return np.array([int(text, 0)], U32) if text[0].isdecimal() else constants.get(text, text)

    for statement in re.split(r"[;\n{}]", assembly):
        if not statement.strip() or statement.strip().startswith(".reg"):
            continue
        name, operands = statement.strip().split(" ", 1)
        to, *texts = (part.strip() for part in operands.split(","))
        sources = [source(text) for text in texts]
        constants.pop(to, None)
        if any(isinstance(each, str) for each in sources):
            statements.append((OPERATIONS[name], to, sources))
        else:
            constants[to] = np.asarray(OPERATIONS[name](*sources)).astype(U32)
    return statements


def run(assembly: str, outputs: int, inputs: list[Any]) -> list[Any]:
    """Runs straight-line PTX over arrays of 32-bit registers, all of one shape; the output registers."""
    registers = {f"${outputs + i}": value for i, value in enumerate(inputs)}
    for operation, to, sources in _program(assembly):
        values = (registers[each] if isinstance(each, str) else each for each in sources)
        registers[to] = np.asarray(operation(*values)).astype(U32, copy=False)
    return [np.broadcast_to(registers[f"${i}"], inputs[0].shape) for i in range(outputs)]


def _registers(data: Any, pack: int) -> list[Any]:
    """Elements → registers: `pack` neighbours to an instance of the assembly, narrow ones sharing a register."""
    raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1, pack * data.dtype.itemsize)
    padded = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 4)))
    return list(padded.view(U32).T.copy())


def install() -> None:
    """Mends the interpreter of this process."""
    from triton.runtime import interpreter

    builder, launch = interpreter.InterpreterBuilder, interpreter.GridExecutor.__call__
    prepared: set[str] = set()

    def quietly(self: Any, *arguments: Any, **options: Any) -> None:
        prepared.clear()
        with np.errstate(all="ignore"):  # a GPU does not warn of infinities that a kernel masks
            launch(self, *arguments, **options)

    def nested(self: Any, *arguments: Any, **options: Any) -> Any:
        """Changes the language that a module sees once for each launch, and not at every call of a function."""
        if (module := self.fn.__module__) not in prepared:
            prepared.add(module)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*arguments, **options)

    interpreter.GridExecutor.__call__ = quietly
    interpreter.InterpretedFunction.__call__ = nested
    builder.create_inline_asm = _inline_asm
    builder.create_dot = _dot
    builder.cast_impl = _cast(builder.cast_impl)
    builder.binary_op = _binary(builder.binary_op)
    for name in ("si_to_fp", "ui_to_fp", "fp_to_si", "fp_to_ui", "fp_ext", "fp_trunc"):
        setattr(builder, f"create_{name}", lambda self, source, type_: self.cast_impl(source, type_))


def _handle(data: Any, type_: Any) -> Any:
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(data, type_)


def _numpy_type(type_: Any) -> Any:
    from triton.runtime.interpreter import _get_np_dtype

    return np.dtype(_get_np_dtype(type_))


def _is_bf16(type_: Any) -> bool:
    return str(type_.scalar) == "bf16"


def _values(tensor: Any) -> Any:
    return from_bf16(tensor.data) if _is_bf16(tensor.dtype) else tensor.data


def _inline_asm(self: Any, assembly: str, constraints: str, arguments: Any, types: Any, pure: bool, pack: int) -> Any:
    shape = arguments[0].data.shape
    inputs = [register for each in arguments for register in _registers(each.data, pack)]
    outputs = run(assembly, constraints.count("="), inputs)
    handles = []
    for type_ in types:
        element = getattr(type_, "element_ty", type_).scalar
        dtype = _numpy_type(element)
        count = pack * dtype.itemsize // 4
        words = np.stack(outputs[:count], -1)
        del outputs[:count]
        handles.append(_handle(np.ascontiguousarray(words).view(dtype).reshape(shape), element))
    return _Results(handles)


def _dot(self: Any, a: Any, b: Any, c: Any, precision: Any, imprecise: Any) -> Any:
    return _handle(np.matmul(_values(a), _values(b), dtype=c.data.dtype) + c.data, c.dtype.scalar)


def _cast(as_it_is: Callable[..., Any]) -> Callable[..., Any]:
    def cast(self: Any, source: Any, type_: Any) -> Any:
        before, after = _is_bf16(source.dtype), _is_bf16(type_)
        if before == after:
            return as_it_is(self, source, type_)
        if before:
            return _handle(from_bf16(source.data).astype(_numpy_type(type_.scalar)), type_.scalar)
        value = np.ascontiguousarray(source.data.astype(np.float32))
        bits = np.where(np.isnan(value), U32(0x7FC0), to_bf16(value))
        return _handle(bits.astype(np.uint16), type_.scalar)

    return cast


def _binary(as_it_is: Callable[..., Any]) -> Callable[..., Any]:
    def binary(self: Any, left: Any, right: Any, operation: Any) -> Any:
        if not (_is_bf16(left.dtype) or _is_bf16(right.dtype)):
            return as_it_is(self, left, right, operation)
        value = operation(_values(left), _values(right))
        if value.dtype == bool:
            from triton.language import int1

            return _handle(value, int1)
        kind = left.dtype.scalar if _is_bf16(left.dtype) else right.dtype.scalar
        return _handle(to_bf16(value.astype(np.float32)).astype(np.uint16), kind)

    return binary


class _Results:
    """What Triton asks for the results of inline assembly."""

    def __init__(self, handles: list[Any]) -> None:
        self._handles = handles

    def get_result(self, number: int) -> Any:
        return self._handles[number]
