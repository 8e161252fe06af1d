"""Compiles the kernels for GPUs that are not here, and counts what came out.

    PYTHONPATH=. python tests/kernels/aot.py [--arch 80,90] [--only REGEX] [--json FILE] [--opcodes]

Each case is compiled by Triton and the ptxas it brings, down to machine code; no GPU and no driver is asked. The exit
status is 1 if a case does not compile, spills registers, does not fit on the chip, lacks an opcode it is expected to
have, or takes more instructions for a weight than the bound that is written beside the kernel.

What is counted is the hottest loop: the innermost one with the most matrix instructions. The weights of one pass
through it are its multiply-adds / rows of activations that share a decoded weight. Unrolling makes no difference.
"""

import argparse
import collections
import dataclasses
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
SHARED_A_BLOCK = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""Most shared memory of a block, KiB."""
REGISTERS_AND_THREADS = {80: (65536, 2048), 86: (65536, 1536), 89: (65536, 1536), 90: (65536, 2048), 100: (65536, 2048),
                         120: (65536, 1536)}  # fmt: skip
"""Of a multiprocessor."""
MATRIX = re.compile(r"HMMA|IMMA|QMMA|HGMMA|UTC\w*MMA")
MULTIPLY_ADDS = {"16816": 16 * 8 * 16, "1688": 16 * 8 * 8}
"""Of a warp, by the shape in HMMA's name."""


@dataclasses.dataclass
class Case:
    """A kernel, the types of its arguments, the values of its constants, and what is expected of its machine code."""

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, Any]
    arch: int
    rows: int = 0
    "rows of activations that share a decoded weight; 0: nothing is counted for each weight"
    most: float = 0
    "issue slots for each weight, at most; 0: any"
    opcodes: tuple[str, ...] = ()
    "regular expressions, one of which each must begin some opcode"
    unaligned: tuple[str, ...] = ()
    "arguments that may not be divisible by 16"


@dataclasses.dataclass
class Compiled:
    """What came out."""

    name: str
    arch: int
    registers: int = 0
    spills: int = 0
    shared: int = 0
    warps: int = 0
    occupancy: float = 0
    instructions: int = 0
    loop: int = 0
    issue_slots: float = 0
    "instructions of a lane for each weight"
    opcodes: dict[str, int] = dataclasses.field(default_factory=dict)
    "of the loop"
    errors: list[str] = dataclasses.field(default_factory=list)


_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?);?\s*/\*")


def _tool(name: str) -> str:
    from triton import knobs

    return str(getattr(knobs.nvidia, name).path)


def machine_code(cubin: bytes) -> bytes:
    """The kernel's section of an ELF file."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + i * size) for i in range(count)]
    strings = sections[names][4]
    return next(cubin[at : at + n] for name, *_, at, n in sections if cubin[strings + name :].startswith(b".text."))


def disassemble(kernels: Sequence[Any]) -> Iterator[list[tuple[int, str, str]]]:
    """Address, opcode and operands of each instruction of each compiled kernel. All are of one architecture, for the
    disassembler takes half a second to start."""
    codes = [machine_code(kernel.asm["cubin"]) for kernel in kernels]
    (target,) = {re.findall(r"\.target sm_(\w+)", kernel.asm["ptx"])[0] for kernel in kernels}
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(codes))
        file.flush()
        command = [_tool("nvdisasm"), "-b", f"SM{target}", "-hex", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    instructions = [
        (int(match[1], 16), match[2], match[3]) for match in filter(None, map(_LINE.match, text.splitlines()))
    ]
    start = 0
    for code in codes:
        end = start + len(code)
        yield [each for each in instructions if start <= each[0] < end]
        start = end


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, and bytes of stack and local memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [_tool("cuobjdump"), "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    return {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage.stdout + usage.stderr)}


def compile_kernel(case: Case) -> Any:
    """Triton's compiled kernel."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_triton

    names = case.kernel.arg_names
    signature = {name: "constexpr" if name in case.constants else case.signature[name] for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if (signature[name].startswith("*") or signature[name] in ("i32", "i64")) and name not in case.unaligned
    }
    source = ASTSource(case.kernel, signature, dict(case.constants), aligned)
    return compile_triton(source, target=GPUTarget("cuda", case.arch, 32), options=case.options)


def hottest_loop(code: list[tuple[int, str, str]]) -> list[str]:
    """Opcodes of the innermost loop that has the most matrix instructions, or else the most instructions."""
    spans = []
    for at, opcode, operands in code:
        target = re.search(r"0x([0-9a-f]+)", operands)
        if opcode.startswith(("BRA", "BRX")) and target and int(target[1], 16) < at:
            spans.append((int(target[1], 16), at))
    inner = [a for a in spans if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    bodies = [[opcode for at, opcode, _ in code if first <= at <= last] for first, last in inner]
    return max(bodies, key=lambda body: (sum(map(multiply_adds, body)), len(body)), default=[])


def multiply_adds(opcode: str) -> int:
    """Of a warp; of a warpgroup's instruction, a warp's share."""
    if not MATRIX.match(opcode):
        return 0
    if group := re.search(r"\.(\d+)x(\d+)x(\d+)", opcode):
        m, n, k = map(int, group.groups())
        return m * n * k // 4
    shape = re.search(r"\.(\d{4,5})\b", opcode)
    return MULTIPLY_ADDS.get(shape[1], 0) if shape else 0


def occupancy(arch: int, registers: int, shared: int, warps: int) -> float:
    """Share of a multiprocessor's threads that blocks of this size fill."""
    everything, threads = REGISTERS_AND_THREADS[arch]
    by_registers = everything // (-(-max(registers, 16) // 8) * 8 * 32 * warps)
    whole = {163: 164, 99: 100, 227: 228}[SHARED_A_BLOCK[arch]]
    return min(by_registers, whole * 1024 // (shared + 1024), threads // (32 * warps)) * 32 * warps / threads


def measure(cases: Sequence[Case]) -> list[Compiled]:
    """Compiles cases of one architecture and checks them."""
    found, made = [Compiled(case.name, case.arch) for case in cases], {}
    for at, case in enumerate(cases):
        try:
            made[at] = compile_kernel(case)
        except Exception as error:  # the compiler raises many classes
            found[at].errors.append(f"{type(error).__name__}: {str(error)[-400:]}")
    if made:
        for (at, kernel), code in zip(made.items(), disassemble([*made.values()]), strict=True):
            _count(cases[at], kernel, code, found[at])
    return found


def _count(case: Case, made: Any, code: list[tuple[int, str, str]], found: Compiled) -> None:
    loop, used = hottest_loop(code), resources(made.asm["cubin"])
    found.registers, found.warps, found.shared = used.get("REG", 0), made.metadata.num_warps, made.metadata.shared
    found.spills = used.get("STACK", 0) + used.get("LOCAL", 0)
    found.spills += sum(opcode.startswith(("LDL", "STL")) for _, opcode, _ in code)
    found.occupancy = round(occupancy(case.arch, found.registers, found.shared, found.warps), 2)
    found.instructions, found.loop = len(code), len(loop)
    found.opcodes = dict(collections.Counter(opcode.split(".")[0] for opcode in loop).most_common())
    if weights := case.rows and sum(map(multiply_adds, loop)) / case.rows:
        found.issue_slots = round(32 * len(loop) / weights, 2)
    found.errors = list(_faults(case, found, [opcode for _, opcode, _ in code]))


def _faults(case: Case, found: Compiled, opcodes: list[str]) -> Any:
    if found.spills:
        yield f"{found.spills} spills"
    if found.shared > SHARED_A_BLOCK[case.arch] * 1024 or not found.occupancy:
        yield "does not fit"
    for pattern in case.opcodes:
        if not any(re.match(pattern, opcode) for opcode in opcodes):
            yield f"no {pattern}"
    if case.rows and not found.issue_slots:
        yield "no loop with matrix instructions whose shape is known"
    if case.most and found.issue_slots > case.most:
        yield f"{found.issue_slots} instructions for each weight, not {case.most}"


def lane_instructions(decoders: Sequence[int], arch: int) -> list[float]:
    """Instructions of a thread for each decoded weight: an elementwise kernel, less one that does not decode."""
    from cases import decode_case

    kernels = [compile_kernel(decode_case(which, arch)) for which in (*decoders, -1)]
    *counts, around = (
        sum(not opcode.startswith(("NOP", "EXIT", "BRA")) for _, opcode, _ in code) for code in disassemble(kernels)
    )
    return [round((count - around) / 32, 2) for count in counts]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", default=",".join(map(str, ARCHITECTURES)))
    parser.add_argument("--only", default="", help="regular expression on the names of cases")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--opcodes", action="store_true", help="print the opcodes of the loop too")
    options = parser.parse_args()
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(Path(__file__).parent))
    from cases import cases, decoders

    report: dict[str, Any] = {"compiled": [], "decoders": []}
    failed = 0
    for arch in map(int, options.arch.split(",")):
        print(f"sm_{arch}: registers, spills, shared KiB, occupancy, instructions, of the loop, issue slots a weight")
        for found in measure([case for case in cases(arch) if re.search(options.only, case.name)]):
            failed += bool(found.errors)
            report["compiled"].append(dataclasses.asdict(found))
            print(
                f"  {found.name:28}{found.registers:5}{found.spills:4}{found.shared / 1024:7.1f}{found.occupancy:6.0%}"
                f"{found.instructions:6}{found.loop:6}{found.issue_slots:7.2f}  {'; '.join(found.errors)}",
                flush=True,
            )
            if options.opcodes:
                print("     ", *(f"{opcode}x{count}" for opcode, count in found.opcodes.items()))
        wanted = [each for each in decoders() if re.search(options.only, f"decode {each[0]}")]
        counts = lane_instructions([decoder for _, decoder, _ in wanted], arch) if wanted else []
        for (name, _, most), count in zip(wanted, counts, strict=True):
            failed += count > most
            report["decoders"].append({"name": name, "arch": arch, "lane_instructions": count, "most": most})
            print(f"  decode {name:22}{count:7.2f} instructions of a lane for each weight, at most {most}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
