"""Is a path a log, and which kind? By its content first, by its ending where that leaves it open."""

import codecs
from pathlib import Path

from nandoctor.logs import errors, events, tabular, text, trainer_state
from nandoctor.logs.table import Log

MAGIC = b"PAR1"  # a Parquet file: a trace, or nothing of ours
OF_TRACES = (".parquet", ".spool")
HEAD = 4096  # bytes that are looked at
MOST = 256  # MB: a text of that size takes minutes, and names the same cause as its end
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
CHINESE = "gb18030"  # of a Chinese Windows console


def is_log(path: Path) -> bool:
    """A regular file that is no trace, neither by name nor by content, and not binary."""
    if path.suffix in OF_TRACES or not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    if not head or head.startswith(MAGIC):
        return False
    return events.is_events(head) or _encoding(head) is not None


def read(path: Path) -> Log:
    """The table of a log. Raises UserError for what holds no training."""
    megabytes = path.stat().st_size >> 20
    if megabytes > MOST:
        raise errors.too_large(str(path), megabytes, MOST)
    data = path.read_bytes()
    if events.is_events(data[:HEAD]):
        log = events.read(str(path))
    else:
        log = _of_text(_decoded(data), path)
    if not text.says_anything(log):
        raise errors.no_loss_in_it(str(path), log.kind)
    return log


def _of_text(content: str, path: Path) -> Log:
    if trainer_state.is_json(content):
        return trainer_state.read(content, str(path))
    if tabular.is_table(content, path.suffix.lower()):
        return tabular.read(content, str(path))
    return text.read(content, str(path))


def _encoding(head: bytes) -> str | None:
    """None: not text."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    return None if b"\0" in head else "utf-8"


def _decoded(data: bytes) -> str:
    marked = _encoding(data[:HEAD])
    if marked is not None and marked != "utf-8":
        return data.decode(marked, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        found = data.decode(CHINESE, "replace")
    return found if any(sign in found for sign in ("警告", "损失", "梯度", "跳过")) else data.decode("utf-8", "replace")
