#!/usr/bin/env python3
"""Cycles of the NEON kernels, from the machine code itself. tools/kernel-report.sh builds what it reads.

usage: kernel-report.py FILE [--level base|dotprod|i8mm] [--check] [--verbose NAME]

FILE is an aarch64 program or library with symbols (v0 mangling). Each kernel's main loop is cut out of the
disassembly and given to llvm-mca. For the Cortex-A76 (level dotprod) the model is Neoverse N1, which is the same core
(LLVM's own cortex-a76 is a copy of the A57), with the A76's dispatch of 4; the other levels use the Cortex-A72 and
the Neoverse N2. All data is taken to be in the first-level cache: this is the compute side of the roofline, not a
measurement.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys

GOALS = {  # cycles for 64 weights of one token, from issue 4
    "I2_S": 5.1,
    "TQ2_0": 5.5,
    "Q1_0_R32": 4.5,  # Q1_0 as `trill pack` lays it out for these cores
    "T2": 3.7,
    "T3": 6.6,
}
MODELS = {
    "base": ["-mcpu=cortex-a72"],
    "dotprod": ["-mcpu=neoverse-n1", "-mattr=+dotprod", "-dispatch=4"],
    "i8mm": ["-mcpu=neoverse-n2", "-mattr=+dotprod,+i8mm"],
}
OLDEST = 17  # of LLVM: before it, neoverse-n1 means the Cortex-A57
TILE_GOAL = 24.0  # multiply-adds per cycle
MACS = {"sdot": 16, "smmla": 32, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}
# Share of the products in a telescoped base-3 loop that are weights: six for five rows, two for one digit.
USEFUL = {("gemv", "T3"): 5 / 6, ("gemv", "TQ1_0"): 1 / 2}
# Types whose rows share bytes, and the SDOTs for each line of the cache asked for in advance and each token.
GROUPS = {"T2": 4, "S2": 4, "T3": 6, "Q2_0_R16": 16, "Q2_0_G128_R16": 16, "TQ2_0_R16": 16}
# Types with interleaved rows, and the weights in a block of a group.
INTERLEAVED = {"Q1_0_R32": 32 * 128, "Q2_0_R16": 16 * 64, "Q2_0_G128_R16": 16 * 128, "TQ2_0_R16": 16 * 256}
TYPE_NAMES = {"I2S": "I2_S", "I2SArm": "I2_S_ARM", "Q2_0G128": "Q2_0_G128", "Q1_0R32": "Q1_0_R32"}
TYPE_NAMES |= {"Q2_0R16": "Q2_0_R16", "Q2_0G128R16": "Q2_0_G128_R16", "TQ2_0R16": "TQ2_0_R16"}


@functools.cache
def tool(name):
    """The newest installed version of an LLVM tool."""
    for candidate in [*(f"{name}-{v}" for v in range(40, OLDEST - 1, -1)), name]:
        if shutil.which(candidate):
            break
    else:
        sys.exit(f"kernel-report: {name} not found; install Debian's llvm package")
    said = subprocess.run([candidate, "--version"], capture_output=True, text=True).stdout
    if (m := re.search(r"version (\d+)", said)) and int(m[1]) < OLDEST:
        sys.exit(f"kernel-report: {candidate} is LLVM {m[1]}; from {OLDEST} on there is a model of the Neoverse N1")
    return candidate


def functions(path):
    """Name -> list of (address, mnemonic, operands)."""
    text = subprocess.run(
        [tool("llvm-objdump"), "-d", "-C", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
    ).stdout
    found, current = {}, None
    for line in text.splitlines():
        if m := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            current = found.setdefault(m[1], []) if "kernels::neon" in m[1] else None
        elif current is not None and (m := re.match(r"^\s*([0-9a-f]+):\s+(\S+)\s*([^<]*)", line)):
            current.append((int(m[1], 16), m[2], re.sub(r"\s*//.*", "", m[3]).strip()))
    return found


def loops(code):
    """(first, last) indices of every loop: the target of a backward branch, and the branch."""
    at = {address: i for i, (address, _, _) in enumerate(code)}
    found = {}
    for i, (_, op, args) in enumerate(code):
        if op == "b" or op.startswith("b.") or op in ("cbz", "cbnz", "tbz", "tbnz"):
            target = at.get(int(args.split(",")[-1].strip().lstrip("#"), 16)) if "0x" in args else None
            if target is not None and target <= i:
                found[target] = max(i, found.get(target, i))
    return sorted(found.items())


def macs(code):
    """Multiply-adds. A lookup is 16 rows times four columns, in two halves; one that makes a table has two sources."""
    looked_up = sum(32 for _, op, args in code if op == "tbl" and re.search(r"\{ ?v\d+.16b ?\}", args))
    products = sum(MACS.get(op, 0) for _, op, args in code if ".4s" in args or ".8h" in args)
    return products or looked_up


def main_loops(code, products):
    """The instructions of one trip of each innermost loop with products. If `products` is known and more than such a
    loop makes, only of the loop around the largest, with that one written out as often as it takes. `products` may be
    a function of the loop; then this is done for every innermost loop."""
    busy = [(a, b) for a, b in loops(code) if macs(code[a : b + 1])]
    inner = [l for l in busy if not any(o != l and l[0] <= o[0] and o[1] <= l[1] for o in busy)]
    inner.sort(key=lambda l: -macs(code[l[0] : l[1] + 1]))
    bodies = []
    for a, b in inner if callable(products) or not products else inner[:1]:
        body = code[a : b + 1]
        wanted = products(body) if callable(products) else products
        around = [l for l in busy if l[0] <= a and b <= l[1] and l != (a, b)]
        if wanted and around:
            first, last = min(around, key=lambda l: l[1] - l[0])
            before, after = code[first:a], code[b + 1 : last + 1]
            trips = round((wanted - macs(before) - macs(after)) / macs(body))
            if trips > 1:
                body = before + body * trips + after
        bodies.append(body)
    return bodies


def tokens(body, sums):
    """Tokens of a trip over groups of rows that share bytes: `sums` products for each group and token, and one line
    asked for in advance for each group."""
    groups = sum(op == "prfm" for _, op, _ in body)
    return sum(op == "sdot" for _, op, _ in body) // (sums * max(groups, 1))


def twice(body, others):
    """Whether the loop is there already: code for one and for two groups ends in the same loop."""
    return any([op for _, op, _ in body] == [op for _, op, _ in other] for other in others)


def cycles(body, model):
    """Cycles of one trip in the steady state."""
    lines = []
    for _, op, args in body:
        if op.startswith("b") and op not in ("bic", "bif", "bit", "bsl") or op in ("cbz", "cbnz", "tbz", "tbnz", "ret"):
            args = re.sub(r"0x[0-9a-f]+$", ".Lx", args)
        if op == "mul" and ".16b" in args:
            args = args.replace(".16b", ".8h")  # the model has no timing for the byte form, which is the same
        lines.append(f"{op} {args}")
    text = "# LLVM-MCA-BEGIN\n.Lx:\n" + "\n".join(lines) + "\n# LLVM-MCA-END\n"
    trips = 200
    command = [tool("llvm-mca"), "-march=aarch64", *model]
    command += [f"-iterations={trips}", "-instruction-info=0", "-resource-pressure=0"]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    m = re.search(r"^Total Cycles:\s+(\d+)", result.stdout, re.M)
    if not m:
        sys.exit(f"kernel-report: llvm-mca failed:\n{result.stderr}")
    return int(m[1]) / trips


def block_products(kind, what):
    """Products of one block of columns, for types whose integers become floats once in 256 columns and whose loop over
    a block the compiler may keep as a loop: four rows (eight in a tile) times the tokens."""
    if kind == "gemv":
        whole = what in ("TQ1_0", "TQ2_0", "STQ1_0") or re.fullmatch(r"Q\d_K", what)
        return 4 * 256 / USEFUL.get((kind, what), 1) if whole else None
    whole = what == "Scaled256" or what.startswith(("SubScaled", "Affine"))
    return 8 * 256 * int(kind[4:]) if whole else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--level", default="dotprod", choices=MODELS)
    parser.add_argument("--verbose", metavar="NAME", help="print the loops of kernels whose name contains NAME")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    if not os.path.exists(options.file):
        sys.exit(f"kernel-report: no such file: {options.file}")
    few = {"base": "gemv_base", "dotprod": "gemv_dotprod", "i8mm": "gemv_dotprod"}[options.level]
    pattern = re.compile(rf"kernels::neon::(?:{options.level}|{few})::(gemv|tile\d+)::<.*::(\w+)>$")
    rows, failed = [], False
    for name, code in functions(options.file).items():
        m = pattern.search(name)
        if not m:
            continue
        kind, what = m[1], m[2]
        what = re.sub(r"^(Tq|Ptq|Stq)", lambda p: p[1].upper(), re.sub(r"^Q(\d)K$", r"Q\1_K", what))
        what = TYPE_NAMES.get(what, what)
        products = block_products(kind, what)
        if kind == "gemv" and what in INTERLEAVED:
            products = lambda body: INTERLEAVED[what] * max(tokens(body, GROUPS.get(what, 16)), 1)
        found = main_loops(code, products)
        bodies = [body for i, body in enumerate(found) if not twice(body, found[:i])]
        if what not in GROUPS:
            bodies = bodies[:1]
        for body in bodies:
            useful = USEFUL.get((kind, what), 1) if options.level != "base" else 1
            c, work = cycles(body, MODELS[options.level]), macs(body) * useful
            n = tokens(body, GROUPS[what]) if what in GROUPS and options.level != "base" else 1
            spills = sum(1 for _, op, args in body if op.startswith("st") and "[sp" in args)
            per64, goal, verdict = c * 64 * n / work, "", ""
            if kind == "gemv" and n == 1 and what in GOALS and options.level == "dotprod":
                goal, ok = f"<= {GOALS[what]}", per64 <= GOALS[what]
                verdict, failed = ("ok" if ok else "MISSED"), failed or not ok
            if kind == "tile4" and what in ("WholeRow", "Scaled256") and options.level == "dotprod":
                goal, ok = f">= {TILE_GOAL:g} MAC", work / c >= TILE_GOAL
                verdict, failed = ("ok" if ok else "MISSED"), failed or not ok
            level = {"base": "neon", "dotprod": "neon-dotprod", "i8mm": "neon-i8mm"}[options.level]
            variant = kind if n == 1 else f"few{n}"
            rows.append((f"{level}-{what}xq8-{variant}", len(body), work, c, per64, work / c, spills, goal, verdict))
            if options.verbose and options.verbose in rows[-1][0]:
                print("\n".join(f"  {op} {args}" for _, op, args in body))
    if not rows:
        sys.exit(f"kernel-report: no kernels of level {options.level} in {options.file} (stripped?)")
    print(f"{'kernel':44} {'insns':>5} {'MAC':>5} {'cycles':>7} {'cyc/64w':>8} {'MAC/cyc':>8} {'spills':>6}  goal")
    for r in sorted(rows, key=lambda r: (r[0].rsplit("-", 1)[1], r[0])):
        print(f"{r[0]:44} {r[1]:5} {r[2]:5.0f} {r[3]:7.1f} {r[4]:8.2f} {r[5]:8.1f} {r[6]:6}  {r[7]} {r[8]}")
    sys.exit(1 if failed and options.check else 0)


main()
