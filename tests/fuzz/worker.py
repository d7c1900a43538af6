"""A forked process that runs nandoctor's commands on hostile files and is watched from outside.

A crash of a library, a hang and a memory bomb end the worker, not the fuzzing: each is a finding.
"""

import gc
import io
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 60  # of one command; the slowest sound one takes 2 on a busy machine
MEBIBYTES = 400  # that one command may add for a small file: matplotlib's canvas and Arrow's pool are in it
BYTES_A_BYTE = 200  # of memory, for each byte of a larger file
ADDRESS_SPACE = 8 << 30  # a fuse, so that a bomb meets MemoryError instead of the machine
STEERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
FORBIDDEN = (  # nothing of this may happen while a file is read
    "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
    "socket.connect", "socket.bind", "urllib.Request", "os.remove", "os.rename", "os.truncate", "os.chmod", "os.kill",
    "webbrowser.open", "ftplib.connect", "smtplib.connect",
)  # fmt: skip
PICTURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@dataclass(frozen=True)
class Outcome:
    code: int | None
    wrong: str | None  # what a command must not do; None: all is well
    seconds: float = 0.0
    mebibytes: float = 0.0


@dataclass
class Watched:
    """What the audit hook saw; a hook cannot be removed, so there is one for the life of the worker."""

    on: bool = False
    folder: str = ""
    seen: list[str] = field(default_factory=list)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = args
            writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            writes = writes or (isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
            named = isinstance(path, (str, bytes))
            if writes and named and not os.fsdecode(path).startswith((self.folder, os.devnull)):
                self.seen.append(f"wrote {os.fsdecode(path)}")
        elif event in FORBIDDEN:
            if event in ("os.remove", "os.rename") and self._inside(os.fsdecode(args[0]), args[-1]):
                return  # a spool that is finished on the way
            self.seen.append(f"{event} {args!r}"[:200])

    def _inside(self, path: str, folder: Any) -> bool:
        """shutil.rmtree names what it removes by the descriptor of its folder."""
        if isinstance(folder, int) and folder >= 0 and not os.path.isabs(path):
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        return path.startswith(self.folder)


def judge(command: Sequence[str], folder: str, watched: Watched) -> Outcome:
    """Run one command in this process and say what it did wrong."""
    from nandoctor.cli import run

    reset_peak()
    before, began = resident(), resource.getrusage(resource.RUSAGE_SELF)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    watched.folder, watched.seen, watched.on = folder, [], True
    raised = None
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(list(command))
    except BaseException:
        code, raised = None, traceback.format_exc()
    finally:
        watched.on = False
    ended = resource.getrusage(resource.RUSAGE_SELF)
    texts = [stream.buffer.getvalue().decode("utf-8", "surrogatepass") for stream in (out, err)]  # type: ignore[attr-defined]
    grown = (peak() - before) / 2**20
    wrong = raised or _wrong(command, code, *texts, watched.seen)
    size = _size(command)
    if wrong is None and grown > MEBIBYTES + BYTES_A_BYTE * size / 2**20:
        wrong = f"{grown:.0f} MiB for a file of {size} bytes"
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    return Outcome(code, wrong, seconds, grown)


def _wrong(command: Sequence[str], code: int | None, out: str, err: str, seen: list[str]) -> str | None:
    if seen:
        return seen[0]
    if code not in (0, 1, 2):
        return f"exit code {code}"
    found = STEERS.search(out) or STEERS.search(err)
    if found:
        text = found.string[max(0, found.start() - 60) : found.end() + 20]
        return f"a control character reached the terminal: {text!r}"
    if "Traceback" in err:
        return f"a traceback: {err[-800:]}"
    if code == 2:
        return None if err.startswith("-- ") and not out else f"no words: {out[:200]!r} {err[:300]!r}"
    if err:
        return f"stderr of a good reading: {err[:400]!r}"
    if command[0] == "plot":
        return _wrong_picture(Path(command[-1]))
    if not out.strip():
        return "nothing was printed"
    return _wrong_json(out) if "--json" in command and len(_paths(command)) == 1 else None


def _paths(command: Sequence[str]) -> list[str]:
    return [word for word in command[1:] if os.sep in word]


def _size(command: Sequence[str]) -> int:
    total = 0
    for path in map(Path, _paths(command)):
        parts = path.iterdir() if path.is_dir() else [path] if path.is_file() else []
        total += sum(part.stat().st_blocks * 512 for part in parts)
    return total


def _wrong_picture(path: Path) -> str | None:
    data = path.read_bytes()
    if not data.startswith(PICTURES[path.suffix]):
        return f"no picture: {data[:20]!r}"
    if path.suffix == ".svg":
        try:
            elements = {element.tag.rpartition("}")[2] for element in ET.fromstring(data).iter()}
        except ET.ParseError as error:
            return f"no XML: {error}"
        if elements & {"script", "foreignObject", "a", "iframe"}:
            return f"active content in a picture: {elements}"
    return None


@cache
def _schema() -> Any:
    import jsonschema

    schema = json.loads((files("nandoctor") / "contract" / "diagnosis.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _wrong_json(out: str) -> str | None:
    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(out, parse_constant=refuse)
    except ValueError as error:
        return f"no strict JSON: {error}"
    error = next(_schema().iter_errors(found), None)
    return None if error is None else f"JSON against its schema: {str(error)[:600]}"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # then the peak is that of all commands so far
        pass


class Worker:
    """Hands commands to a forked process, one at a time; a dead or hanging one is replaced."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, command: Sequence[str], folder: Path) -> Outcome:
        if self._process is None or self._pipe is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send((list(command), str(folder)))
        if not self._pipe.poll(SECONDS):
            self.stop()
            return Outcome(None, f"no end within {SECONDS} s")
        try:
            outcome: Outcome = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.stop()
            return Outcome(None, f"the process died: {code}")
        return outcome

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watched = Watched()
    sys.addaudithook(watched.audit)
    import matplotlib.font_manager  # noqa: F401 - asks fc-list for fonts, once in the life of a machine

    while True:
        try:
            command, folder = pipe.recv()
        except EOFError:
            return
        pipe.send(judge(command, folder, watched))
        gc.collect(1)
