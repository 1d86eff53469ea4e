"""Assembler for the little of WebAssembly's text format that the page needs: one function over an imported memory.

So the page's kernel is read where it is written, and no compiler is needed. Binary format: WebAssembly 2.0, chapter 5.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

PLAIN = {
    **{"end": 0x0B, "i32.lt_u": 0x49, "i32.gt_s": 0x4A, "i32.add": 0x6A, "i32.sub": 0x6B, "i32.shl": 0x74},
    **{"f32x4.splat": 0xFD13, "i32x4.extend_low_i16x8_s": 0xFDA7, "i32x4.extend_high_i16x8_s": 0xFDA8},
    **{"f32x4.add": 0xFDE4, "f32x4.mul": 0xFDE6, "f32x4.convert_i32x4_s": 0xFDFA},
}
"""Instructions without operands in the text; of two bytes where they are SIMD's, whose second is written as LEB128."""
LOCALS = {"local.get": 0x20, "local.set": 0x21, "local.tee": 0x22}
MEMORY = {"v128.load": 0x00, "v128.load8x8_s": 0x01, "v128.store": 0x0B}
TYPES = {"i32": 0x7F, "v128": 0x7B}
SIMD, SHUFFLE, LANES = 0xFD, 0x0D, 16
LOOP, BRANCH_IF, NO_RESULT, I32_CONST, F32_CONST = 0x03, 0x0D, 0x40, 0x41, 0x43
Tree = list["Tree | str"]


def assemble(text: str) -> bytes:
    """The binary of a module with an imported memory and one exported function. Raises ValueError."""
    module = _parse(iter(re.findall(r'"[^"]*"|[()]|[^\s()]+', re.sub(r";;.*", "", text))))[0]
    if not isinstance(module, list) or len(module) != 3:
        raise ValueError("a module has an import and a function here")
    _, imported, function = module
    assert isinstance(imported, list) and isinstance(function, list)
    params = [field for field in function if isinstance(field, list) and field[0] == "param"]
    own = [field for field in function if isinstance(field, list) and field[0] == "local"]
    exported = next(field for field in function if isinstance(field, list) and field[0] == "export")
    names = {str(field[1]): number for number, field in enumerate([*params, *own])}
    body = b"".join(_list_instructions([word for word in function[1:] if isinstance(word, str)], names))
    kinds = b"".join(b"\x01" + bytes([TYPES[str(field[2])]]) for field in own)
    code = _leb(len(own)) + kinds + body + b"\x0b"
    signature = b"\x60" + _vector([bytes([TYPES[str(field[2])]]) for field in params]) + b"\x00"
    memory = _name(imported[1]) + _name(imported[2]) + b"\x02\x00\x01"  # of one page at least
    sections = {1: [signature], 2: [memory], 3: [b"\x00"], 7: [_name(exported[1]) + b"\x00\x00"]}
    sections[10] = [_leb(len(code)) + code]
    return b"\x00asm\x01\x00\x00\x00" + b"".join(
        bytes([number]) + _leb(len(_vector(entries))) + _vector(entries) for number, entries in sections.items()
    )


def _parse(words: Iterator[str]) -> Tree:
    tree: Tree = []
    for word in words:
        if word == ")":
            return tree
        tree.append(_parse(words) if word == "(" else word)
    return tree


def _list_instructions(words: Sequence[str], names: dict[str, int]) -> Iterator[bytes]:
    """The code of a body; labels are counted from the inside out."""
    rest, labels = list(words), list[str]()
    while rest:
        word = rest.pop(0)
        if word in LOCALS:
            yield bytes([LOCALS[word]]) + _leb(names[rest.pop(0)])
        elif word in MEMORY:
            offset = rest.pop(0).removeprefix("offset=") if rest and rest[0].startswith("offset=") else "0"
            yield bytes([SIMD]) + _leb(MEMORY[word]) + b"\x00" + _leb(int(offset))  # of no alignment
        elif word == "loop":
            labels.append(rest.pop(0))
            yield bytes([LOOP, NO_RESULT])
        elif word == "br_if":
            yield bytes([BRANCH_IF]) + _leb(labels[::-1].index(rest.pop(0)))
        else:
            labels = labels[:-1] if word == "end" else labels
            yield _encode_simple(word, rest)


def _encode_simple(word: str, rest: list[str]) -> bytes:
    if word == "i32.const":
        return bytes([I32_CONST]) + _signed_leb(int(rest.pop(0)))
    if word == "f32.const":
        return bytes([F32_CONST]) + struct.pack("<f", float(rest.pop(0)))
    if word == "i8x16.shuffle":
        lanes = [int(rest.pop(0)) for _ in range(LANES)]
        return bytes([SIMD, SHUFFLE, *lanes])
    if word not in PLAIN:
        raise ValueError(f"the instruction {word} is not known here")
    code = PLAIN[word]
    return bytes([code]) if code < SIMD else bytes([SIMD]) + _leb(code & 0xFF)


def _name(word: Tree | str) -> bytes:
    letters = str(word).strip('"').encode()
    return _leb(len(letters)) + letters


def _vector(entries: Sequence[bytes]) -> bytes:
    return _leb(len(entries)) + b"".join(entries)


def _leb(number: int) -> bytes:
    """Unsigned LEB128."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _leb(rest)


def _signed_leb(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    is_last = rest == (-1 if low & 0x40 else 0)
    return bytes([low]) if is_last else bytes([low | 0x80]) + _signed_leb(rest)
