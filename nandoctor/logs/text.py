"""Text logs: hand-written prints, tqdm's bars, Lightning's and Hugging Face's consoles, warnings."""

import re
from collections.abc import Iterator

from nandoctor.logs.alarms import QUICK, crash, warned
from nandoctor.logs.columns import EPOCH, STEP, role_of
from nandoctor.logs.table import Crash, Log, Said, Warned, from_records

NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?:nan|inf(?:inity)?)(?:\.0)?(?![\w.]))"  # Lightning: inf.0
WORD = r"[^\W\d][\w./@-]*"
# "Train Loss: 0.5", 'loss': '0.5', lr=1e-3, "loss 1.2", "loss: tensor(0.5"; a name of up to three words
PAIR = re.compile(
    rf"(?<![\w./])(?P<name>{WORD}(?:[ ]{WORD}){{0,2}})[\"']?(?:\s*[:=：]\s*|\s+\(?|\s*\[\s*)"
    rf"(?:\[\s*)?[\"']?(?:tensor\()?(?P<value>{NUMBER})(?P<unit>%|\s*it/s|\s*s/it|/s)?",
    re.IGNORECASE,
)
EPOCH_AT = re.compile(r"\b(?:epochs?|ep)\b(?:\s*\(\w+\))?[\s:=#\[(]*(?P<n>\d+(?:\.\d+)?)", re.IGNORECASE)
EPOCH_CHINESE = re.compile(r"第\s*(?P<n>\d+)\s*[轮个](?:epoch)?|轮次\s*[:：]?\s*(?P<m>\d+)", re.IGNORECASE)
# "| 45/100 [00:12<": a bar; "[ 10/5005]", "[640/60000 (1%)]": a place in an epoch
PLACE_OF_BAR = re.compile(r"\|\s*(\d+)/(?:\d+|\?)\s*\[")
PLACE = re.compile(r"\[\s*(\d+)\s*/\s*\d+(?:\s*\([\d.]+\s*%\))?\s*\]")
VALIDATES = re.compile(
    r"(?<![\w/.-])(?:val|valid|validation|validating|eval|evaluation|evaluating|test|testing|dev)(?![\w/-])|验证|测试",
    re.IGNORECASE,
)
TRAINS = re.compile(r"(?<![\w/-])(?:train|training)(?![\w/-])|训练", re.IGNORECASE)
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0e-\x1f]")
LINE_ENDS = re.compile(r"[\r\n]+|\x1b\[[0-9]*[AEFGK]")  # a bar goes up a line to draw itself anew
LOSSES, VALUES = {"train", "validation", "rival"}, {"lr", "norm"}
REMEMBERED = ("best", "lowest", "previous", "prev", "minimum", "min")  # "best loss so far 0.1": of another step
HEADING = 40  # characters: a line so short without a number is a title
CLIP_LINE = 2000  # characters of a line that are read: one longer holds data, not losses
OPTIMIZERS = re.compile(r"\b(AdamW|Adam|SGD|RMSprop|Adagrad|NAdam|RAdam|Adafactor|Lion|LBFGS)\b")
BATCH_SIZE = re.compile(r"batch[ _-]?size[\"']?\s*[:=]?\s*(\d{1,6})\b", re.IGNORECASE)
HALF = re.compile(
    r"\bfp16[\"']?\s*[:=]\s*[\"']?true|mixed[_-]precision[\"']?[\s:=]+[\"']?fp16|16bit automatic mixed"
    r"|precision[\"']?[\s:=]+[\"']?16(?!\d)|\b16-mixed\b|--fp16\b|dtype=torch\.float16|gradscaler",
    re.IGNORECASE,
)
BRAIN = re.compile(r"\bbf16-mixed\b|mixed[_-]precision[\"']?[\s:=]+[\"']?bf16|bfloat16|--bf16\b", re.IGNORECASE)
FULL = re.compile(r"mixed[_-]precision[\"']?[\s:=]+[\"']?(no|fp32)\b|precision[\"']?[\s:=]+[\"']?(32|fp32)", re.I)
SETTINGS = re.compile(r"fp16|16|precision|adam|sgd|optim|batch|accelerate|scaler|prop|lion|_runtime", re.I)
TRAINER = re.compile(r"[\"'](?:eval_runtime|train_runtime)[\"']\s*:")


def read(text: str, path: str) -> Log:
    """Every line that says something. The epoch is carried on: it may stand in a line of its own."""
    said = _Said()
    records = list(_records(text, said))
    return from_records(records, path, "a text log", said.all())


def _records(text: str, said: "_Said") -> Iterator[dict[str, float] | Warned]:
    mode, epoch = "", -1.0
    for raw in LINE_ENDS.split(text):
        line = ESCAPES.sub("", raw[:CLIP_LINE]).strip()
        if not line:
            continue
        said.hear(line)
        warning = warned(line) if QUICK.search(line) else None
        if warning is not None:
            yield warning
        found = _numbers(line, mode)
        roles = {role_of(name) for name in found}
        mode = _mode_of(line) if not found and len(line) < HEADING else ""  # "Validation:" before its numbers
        if roles & LOSSES or (roles & VALUES and warning is None) or found.get(EPOCH, epoch) != epoch:
            yield found
        epoch = found.get(EPOCH, epoch)


def _numbers(line: str, mode: str) -> dict[str, float]:
    """What a line tells, under its own names; a loss of validation named as such."""
    found: dict[str, float] = {}
    for pair in PAIR.finditer(line):
        name = _last_name(pair["name"], line[: pair.start("name")].rstrip().rpartition(" ")[2])
        if name is None or pair["unit"]:
            continue
        role = role_of(name)
        if role in ("train", "rival"):
            where = _mode_of(line[: pair.start("name")] + " " + pair["name"]) or mode
            name = f"validation {name}" if where == "validation" else name
        elif role == STEP and STEP in found:
            continue
        found.setdefault({EPOCH: EPOCH, STEP: STEP}.get(role or "", name), float(pair["value"].removesuffix(".0")))
    epoch = EPOCH_AT.search(line) or EPOCH_CHINESE.search(line)
    if epoch and EPOCH not in found:
        found[EPOCH] = float(next(group for group in epoch.groups() if group))
    place = PLACE_OF_BAR.search(line) or PLACE.search(line)
    if place and STEP not in found:
        found[STEP] = float(place[1])
    return found


def _last_name(words: str, before: str) -> str | None:
    """The longest end of "INFO Train Loss" that means something; "best loss so far" is no loss of a step."""
    parts = words.split(" ")
    if any(word.lower() in REMEMBERED for word in (before, *parts[:-1])):
        return None
    for start in range(len(parts)):
        name = " ".join(parts[start:])
        if role_of(name) is not None:
            return name
    return None


def _mode_of(text: str) -> str:
    """Whether training or validation was spoken of last."""
    last = ""
    at = -1
    for name, pattern in (("training", TRAINS), ("validation", VALIDATES)):
        for word in pattern.finditer(text):
            if word.start() > at:
                last, at = name, word.start()
    return last


class _Said:
    """Collects what a log says beside its numbers."""

    def __init__(self) -> None:
        self.precision: str | None = None
        self.optimizer: str | None = None
        self.batch_size: int | None = None
        self.accelerate = self.filtered = False
        self.crash: Crash | None = None

    def hear(self, line: str) -> None:
        if "Error" in line or "Exception" in line:
            self.crash = crash(line) or self.crash
        if not SETTINGS.search(line):
            return
        if self.precision is None:
            half, brain = HALF.search(line), BRAIN.search(line)
            self.precision = "fp16" if half else "bf16" if brain else "fp32" if FULL.search(line) else None
        if self.optimizer is None and (name := OPTIMIZERS.search(line)):
            self.optimizer = name[1]
        if self.batch_size is None and (size := BATCH_SIZE.search(line)):
            self.batch_size = int(size[1])
        self.accelerate = self.accelerate or "accelerate" in line.lower()
        self.filtered = self.filtered or TRAINER.search(line) is not None

    def all(self) -> Said:
        return Said(self.precision, self.optimizer, self.batch_size, self.accelerate, self.crash, self.filtered)


def says_anything(log: Log) -> bool:
    """Whether a text is a log of a training at all."""
    losses = any(row.train is not None or row.validation is not None or row.norm is not None for row in log.rows)
    return losses or bool(log.warnings) or log.said.crash is not None
