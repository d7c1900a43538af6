"""Files that no mutation finds: bombs, holes, devices, other programs' files, every name a weapon."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nandoctor.trace.schema import KIND_NAMES, KINDS, ROW, TENSOR_KINDS, VERSION
from tests.builders import Run, run
from tests.fuzz import bases, hostile

GIGABYTES_50 = 50 << 30
MAGIC = b"PAR1"


@dataclass(frozen=True)
class Strange:
    name: str  # what it is, in words
    path: Path
    refused: bool | None  # True: every command must end with 2; False: diagnose must read it; None: either will do
    heavy: bool = False  # left out of the short form


def strange(folder: Path) -> Iterator[Strange]:
    """Made one after the other; a file may be large until the next one is asked for."""
    good = bases.training(session="s").file(folder / "good.parquet")
    for number, (name, make, refused, *rest) in enumerate(MAKERS):
        place = folder / f"{number:02}"
        place.mkdir()
        made = make(place, good)
        yield Strange(name, made, refused, bool(rest))
        for part in [made, *made.iterdir()] if made.is_dir() and not made.is_symlink() else [made]:
            if part.is_file():
                os.truncate(part, 0)


# --- no file ---------------------------------------------------------------------------------------------------
def fifo(folder: Path, _: Path) -> Path:
    os.mkfifo(folder / "run.parquet")
    return folder / "run.parquet"


def pipe_in_a_spool(folder: Path, _: Path) -> Path:
    spool = run(loss="1 2").spool(folder / "run.parquet")
    for name in ("rows.bin", "notes.jsonl"):
        (spool / name).unlink()
        os.mkfifo(spool / name)
    return spool


def directory(folder: Path, _: Path) -> Path:
    (folder / "run.parquet").mkdir()
    return folder / "run.parquet"


def device(folder: Path, _: Path) -> Path:
    (folder / "run.parquet").symlink_to("/dev/zero")
    return folder / "run.parquet"


def loop(folder: Path, _: Path) -> Path:
    (folder / "run.parquet").symlink_to(folder / "run.parquet")
    return folder / "run.parquet"


# --- bytes -----------------------------------------------------------------------------------------------------
def content(name: str, data: bytes) -> Callable[[Path, Path], Path]:
    def make(folder: Path, _: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def sparse(name: str, head: bytes, tail: bytes) -> Callable[[Path, Path], Path]:
    def make(folder: Path, _: Path) -> Path:
        with open(folder / name, "wb") as file:
            file.write(head)
            file.truncate(GIGABYTES_50)
            file.seek(-len(tail) or GIGABYTES_50, os.SEEK_END if tail else os.SEEK_SET)
            file.write(tail)
        return folder / name

    return make


def sparse_with_a_sound_footer(folder: Path, good: Path) -> Path:
    data = good.read_bytes()
    length = int.from_bytes(data[-8:-4], "little") + 8
    return sparse("run.parquet", data[:-length], data[-length:])(folder, good)


def sparse_spool(name: str) -> Callable[[Path, Path], Path]:
    def make(folder: Path, _: Path) -> Path:
        spool = run(loss="3 2 1 nan").spool(folder / "run.parquet")
        os.truncate(spool / name, GIGABYTES_50)
        return spool

    return make


# --- Parquet ---------------------------------------------------------------------------------------------------
def rewritten(
    change: Callable[[pa.Table], pa.Table], metadata: dict[bytes, bytes] | None = None, **options: Any
) -> Any:
    def make(folder: Path, good: Path) -> Path:
        kept = {**pq.read_metadata(good).metadata, **(metadata or {})}
        table = change(pq.read_table(good)).replace_schema_metadata(kept)
        pq.write_table(table, folder / "run.parquet", compression="zstd", **options)
        return folder / "run.parquet"

    return make


def set_to(name: str, values: Callable[[int], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, values(len(table)))

    return change


def many_rows(table: pa.Table) -> pa.Table:
    """A million rows, all alike: 30 kB."""
    return table.slice(0, 1).take(pa.array(np.zeros(1_000_000, "i4")))


def endless_words(table: pa.Table) -> pa.Table:
    """One name of 256 MB, in every row: 20 kB."""
    return set_to("layer", lambda rows: pa.array(["x" * (256 << 20)] + [""] * (rows - 1)))(table)


def all_numbers(value: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        for field in table.schema:
            if pa.types.is_floating(field.type):
                table = set_to(field.name, lambda rows: pa.array([value] * rows, pa.float64()))(table)
        return table

    return change


def version(number: int) -> Any:
    notes = [{"note": "header", "version": number, "nandoctor": "99.1\x1b[2J"}]
    stored = {b"nandoctor.version": str(number).encode(), b"nandoctor": json.dumps(notes).encode()}
    return rewritten(lambda table: table, stored)


def another_programs(folder: Path, _: Path) -> Path:
    pq.write_table(pa.table({"kind": ["loss"], "step": [1]}), folder / "run.parquet")
    return folder / "run.parquet"


def dictionary_of(entries: int, unpacked: int) -> Callable[[Path, Path], Path]:
    """The header of the first dictionary page claims what it cannot hold."""

    def make(folder: Path, good: Path) -> Path:
        data = bytearray(good.read_bytes())
        column = pq.read_metadata(good).row_group(0).column(5)
        assert column.path_in_schema == "kind"
        at = column.dictionary_page_offset
        header = (
            b"\x15\x04\x15"
            + varint(2 * unpacked)
            + b"\x15\x02"
            + b"\x4c\x15"
            + varint(2 * entries)
            + b"\x15\x00\x00\x00"
        )
        data[at : at + len(header)] = header
        (folder / "run.parquet").write_bytes(data)
        return folder / "run.parquet"

    return make


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


# --- names and numbers -----------------------------------------------------------------------------------------
def named(text: str) -> Callable[[Path, Path], Path]:
    """Every layer, class, file, line and word of a run is this text."""

    def make(folder: Path, _: Path) -> Path:
        made = bases.training(command=["python", text], cwd=text, torch=text, nandoctor=text, platform=text)
        for note in made.notes:
            planted(note, text)
        return made.file(folder / "run.parquet")

    return make


def planted(part: Any, text: str) -> None:
    for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
        if isinstance(value, (dict, list)):
            planted(value, text)
        elif isinstance(value, str) and key not in ("note", "alarm", "kind", "role", "phase", "mode", "session"):
            part[key] = text


def every_row(a: float, b: float, c: float, step: int) -> Callable[[Path, Path], Path]:
    """Rows of every kind with these numbers."""

    def make(folder: Path, _: Path) -> Path:
        made = Run()
        for kind in KIND_NAMES:
            for _ in range(5):
                numbers = {name: value for name, value in zip(KINDS[kind], (a, b, c), strict=True) if name}
                made.row(kind, "fc", shape=(2, 3) if kind in TENSOR_KINDS else None, dtype="float32", **numbers)
        made.packed = [ROW.pack(step, *ROW.unpack(row)[1:]) for row in made.packed]
        made.note("end", exit_code=0)
        return made.file(folder / "run.parquet")

    return make


NAN, INF = float("nan"), float("inf")
TABLE = "epoch,train_loss,lr\n"
STEERING = "".join(f"epoch {n} {text[:9]} loss: {n} {text[:99]}\n" for n, text in enumerate(hostile.TEXTS * 3))
ODD = "".join(f"epoch {n} step {-n} loss: {v!r} lr: {v!r}\n" for n, v in enumerate(hostile.REALS * 2))
ODD_TABLE = TABLE + "".join(f"{v!r},{v!r},{v!r}\n" for v in hostile.REALS)
WIDE_TABLE = ",".join(["loss", *(f"c{n}" for n in range(20_000))]) + "\n" + ",".join(["1"] * 20_001) + "\n"
PRINTABLE = [v for v in (*hostile.NUMBERS, *hostile.OTHERS, *hostile.ESCAPES) if v != 10**4000]
ODD_JSON = json.dumps([{"loss": v, "epoch": v, "step": v, "lr": v} for v in PRINTABLE])
JSON_LINES = "".join(json.dumps({"loss": n, f"{t[:9]}loss": n, "epoch": n}) + "\n" for n, t in enumerate(hostile.TEXTS))
MAKERS: tuple[Any, ...] = (
    ("an empty trace", content("run.parquet", b""), True),
    ("an empty log", content("run.log", b""), True),
    ("a directory", directory, True),
    ("a FIFO", fifo, True),
    ("a spool of FIFOs", pipe_in_a_spool, True),
    ("/dev/zero", device, True),
    ("a link to itself", loop, True),
    ("a missing file", lambda folder, _: folder / "none.parquet", True),
    ("text named .parquet", content("run.parquet", b"loss 1\nloss nan\n"), True),
    ("random bytes", content("run.bin", np.random.default_rng(0).bytes(10_000)), True),
    ("50 GB of nothing, .parquet", sparse("run.parquet", b"", b""), True),
    ("50 GB between two PAR1", sparse("run.parquet", MAGIC, b"\xff\xff\xff\xff" + MAGIC), True),
    ("50 GB before a sound footer", sparse_with_a_sound_footer, None),
    ("50 GB of rows in a spool", sparse_spool("rows.bin"), None),
    ("50 GB of notes in a spool", sparse_spool("notes.jsonl"), None),
    ("50 GB of log", sparse("run.log", b"loss: 1\n" * 1000, b"loss: 2\n"), True),
    ("50 GB of CSV", sparse("run.csv", TABLE.encode() + b"1,1,1\n" * 1000, b"2,2,2\n"), True),
    ("50 GB of JSON", sparse("run.json", b'[{"loss": 1}' + b" " * 5000, b"]"), True),
    ("a million rows in 30 kB", rewritten(many_rows, row_group_size=1 << 20), None, "heavy"),
    ("a name of 256 MB in 20 kB", rewritten(endless_words), None, "heavy"),
    ("a dictionary of 10^9 entries", dictionary_of(1_000_000_000, 2_000_000_000), True),
    ("a page that unpacks to 2 GB", dictionary_of(5, (1 << 31) - 1), True),
    ("a page of less than nothing", dictionary_of(-5 & 0xFFFFFFFF, 5), True),
    ("another program's Parquet", another_programs, True),
    ("an older version", rewritten(lambda table: table, {b"nandoctor.version": b"1"}), False),
    ("a newer version", version(VERSION + 1), True),
    ("a version from far away", version(10**8), True),
    ("NaN steps", rewritten(set_to("step", lambda n: pa.array([NAN] * n))), True),
    ("negative steps", rewritten(set_to("step", lambda n: pa.array([-5] * n, pa.int32()))), False),
    ("steps in the wrong order", rewritten(set_to("order", lambda n: pa.array(range(n, 0, -1), pa.int64()))), False),
    ("all numbers 1e300", rewritten(all_numbers(1e300)), False),
    ("all numbers inf", rewritten(all_numbers(INF)), False),
    ("all numbers NaN", rewritten(all_numbers(NAN)), False),
    ("all numbers 5e-324", rewritten(all_numbers(5e-324)), False),
    ("rows of every kind, 1e300", every_row(-1e300, 1e300, 1e300, 3), None),
    ("rows of every kind, NaN", every_row(NAN, NAN, NAN, 2**31 - 1), None),
    ("rows of every kind, inf, step 2^32 - 1", every_row(-INF, INF, INF, 2**32 - 1), None),
    ("rows of every kind, high below low", every_row(5.0, -5.0, -1.0, 0), None),
    *((f"names like {text[:24]!r}", named(text), None) for text in hostile.TEXTS if len(text) < 1_000_000),
    ("names of 1 MB", named("x" * 1_000_000), None),
    ("a log of one line of 20 MB", content("run.log", b"loss: 1 " * 2_500_000), None, "heavy"),
    ("a log without an end of line", content("run.log", b"a" * 3_000_000), True),
    ("a log that steers", content("run.log", STEERING.encode("utf-8", "surrogatepass")), None),
    ("a log of odd numbers", content("run.log", ODD.encode()), None),
    ("a log in UTF-16", content("run.log", "epoch 1 loss: 2\nepoch 2 loss: nan\n".encode("utf-16")), None),
    ("a log of invalid UTF-8", content("run.log", b"\xff\xfe\xfaloss: 1\nloss: nan \xed\xa0\x80\n" * 40), None),
    ("a CSV of 20,000 columns", content("run.csv", WIDE_TABLE.encode()), None, "heavy"),
    ("a CSV of odd numbers", content("run.csv", ODD_TABLE.encode()), None),
    ("a CSV with a quote that never ends", content("run.csv", (TABLE + '1,"' + "2,3\n" * 5000).encode()), None),
    ("a CSV with NUL", content("run.csv", (TABLE + "1,2,3\n" * 900 + "\0,\0,\0\n").encode()), None),
    ("JSON nested 10^6 deep", content("run.json", b"[" * 1_000_000), True),
    ("JSON of numbers without end", content("run.json", b'[{"loss": ' + b"9" * 100_000 + b', "epoch": 1}]'), True),
    ("JSON of odd values", content("run.json", ODD_JSON.encode()), None),
    ("JSON lines that steer", content("run.jsonl", JSON_LINES.encode()), None),
    ("a gzip bomb named .csv", content("run.csv", b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(1000)), True),
)  # fmt: skip

COMMANDS = (
    ("diagnose", "FILE"), ("diagnose", "--json", "FILE"), ("diagnose", "--full", "FILE"), ("show", "FILE"),
    ("show", "--layer", "*", "FILE"), ("diagnose", "FILE", "TWIN"), ("diagnose", "TWIN", "FILE"),
    ("diagnose", "--json", "FILE", "TWIN"),
    *(("plot", what, "FILE", "-o", f"PICTURE.{ending}") for what, ending in (
        ("grad-norm", "png"), ("loss", "svg"), ("activations", "png"), ("lr", "pdf"), ("weights", "png"),
        ("updates", "svg"), ("provenance", "svg"),
    )),
)  # fmt: skip


def commands(one: Strange, twin: Path, work: Path) -> Iterator[list[str]]:
    """Of a log only those that read logs."""
    names = {"FILE": str(one.path), "TWIN": str(twin)}
    for words in COMMANDS:
        if one.path.suffix in (".parquet", ".spool") or (words[0] == "diagnose" and "TWIN" not in words):
            yield [names.get(word, word.replace("PICTURE", str(work / "picture"))) for word in words]
