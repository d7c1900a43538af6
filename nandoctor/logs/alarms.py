"""Lines that programs print when something goes wrong: the documents' own, word for word, and those of libraries."""

import re

from nandoctor.logs.table import Crash, Warned

OUTPUT, LOSS, LOSS_CAPPED, GRADIENT, WEIGHT = "output", "loss", "loss-capped", "gradient", "weight"
NORM_HIGH, NORM_RAISED = "norm-high", "norm-raised"  # the ladder of nan-root-cause: above 10, above 5
DATA_INF, DATA_RANGE, DATA_BAD = "data-inf", "data-range", "data-bad"
SCALE, ANOMALY = "scale", "anomaly"
ANY_NAN = r"NaN\s*/\s*Inf"

# what -> how it reads; the first that fits counts. The Chinese lines are those of docs/sources.md
LINES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(pattern, re.IGNORECASE))
    for what, pattern in (
        (OUTPUT, rf"警告.*模型输出包含\s*{ANY_NAN}"),
        (LOSS_CAPPED, r"警告.*损失过大"),
        (LOSS, rf"警告.*检测到\s*{ANY_NAN}\s*损失"),
        (GRADIENT, rf"警告.*梯度包含\s*{ANY_NAN}"),
        (WEIGHT, rf"警告.*权重包含\s*{ANY_NAN}"),
        (NORM_HIGH, r"警告.*梯度范数过大"),
        (NORM_RAISED, r"警告.*梯度范数较大"),
        (DATA_INF, r"跳过.*包含\s*Inf\s*值"),
        (DATA_RANGE, r"警告.*数值范围很大"),
        (DATA_BAD, r"发现异常数据"),
        (SCALE, r"(gradient )?overflow\W.*skipping step|skipping step.*loss scal|loss scaler.*reducing loss scale"),
        (SCALE, r"grad(ient)? scaler?.*(found inf|overflow)"),
        (ANOMALY, r"\w+Backward\d*'? returned nan values"),
        (GRADIENT, r"(non-?finite|nan|inf)\b.{0,40}\bgrad|grad\w*.{0,30}\b(is|are|contains?|has|have|with)\b.{0,12}"
                   r"\b(nan|inf|non-?finite)"),
        (WEIGHT, r"(weights?|parameters?)\b.{0,30}\b(is|are|contains?|has|have)\b.{0,12}\b(nan|inf|non-?finite)"),
        (LOSS, r"loss\b.{0,20}\b(is|became|was|got)\b.{0,8}\b(nan|inf|non-?finite)"
               r"|(nan|inf|non-?finite) loss (detected|encountered|found|at|in)|detected.{0,10}(nan|inf)\w* loss"),
        (DATA_BAD, r"(nan|inf)\b.{0,20}\b(in|found in)\b.{0,12}\b(input|batch|data|dataset|sample|features?)\b"),
    )
)  # fmt: skip
SKIPPED = re.compile(r"跳过|skip", re.IGNORECASE)
BATCH = re.compile(r"(?:batch|step|iter\w*)\D{0,3}(\d{1,9})", re.IGNORECASE)
NORM = re.compile(r"\((\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf|nan)\)", re.IGNORECASE)
ERROR = re.compile(r"^\s*(?:\w+(?:\.\w+)*\.)?(\w*(?:Error|Exception|Interrupt)): (.+)$")
QUICK = re.compile(r"警告|跳过|异常|\bnan|\binf\b|finite|overflow|skip", re.IGNORECASE)  # cheap: most lines say none
LONGEST = 300  # characters of a line that are kept


def warned(line: str) -> Warned | None:
    """The warning that a line is, if it is one."""
    for what, pattern in LINES:
        if pattern.search(line):
            batch, norm = BATCH.search(line), NORM.search(line)
            return Warned(
                what=what,
                text=line.strip()[:LONGEST],
                batch=int(batch[1]) if batch else None,
                norm=float(norm[1]) if norm and what in (NORM_HIGH, NORM_RAISED) else None,
                skipped=SKIPPED.search(line) is not None and what not in (DATA_INF, DATA_BAD),
            )
    return None


def crash(line: str) -> Crash | None:
    """The last line of a traceback."""
    found = ERROR.match(line)
    return Crash(found[1], found[2].strip()[:LONGEST]) if found else None
