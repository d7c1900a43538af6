"""Errors and findings that name their cause by themselves: a library's own words."""

import re

from nandoctor.causes.cause import Fact, Verdict
from nandoctor.logs import alarms
from nandoctor.logs.course import Course

WORDS = 0.9  # the library says it; which line of yours it was stays open
SCANNED = 0.75  # a scan of the data found it; whether it is all of it stays open

CRASHES = tuple(
    (cause, re.compile(pattern, re.IGNORECASE), meaning)
    for cause, pattern, meaning in (
        ("amp-misuse", r"unscale_\(\) has already been called|unscale_\(\) is being called after step"
         r"|step\(\) has already been called|no inf checks were recorded|attempting to unscale fp16 gradients",
         "GradScaler was called in the wrong order"),
        ("batchnorm-tiny-batch", r"expected more than 1 value per channel",
         "BatchNorm was given one value per channel: a batch of one"),
        ("bad-labels", r"target -?\d+ is out of bounds|class values must be smaller than num_classes"
         r"|all elements of target should be between 0 and 1|assertion `?t >= 0 && t < n_classes",
         "a label lies outside what the loss knows"),
        ("unsafe-op", r"\w+Backward\d*'? returned nan values",
         "anomaly detection names the operation whose derivative is NaN"),
    )
)  # fmt: skip


def verdicts(c: Course) -> list[tuple[str, Verdict]]:
    found: list[tuple[str, Verdict]] = []
    crash = c.log.said.crash
    for cause, pattern, meaning in CRASHES:
        if crash is not None and pattern.search(crash.message):
            fact = Fact(f"{crash.type}: {crash.message[:160]}")
            found.append((cause, Verdict(WORDS, f"{meaning}.", (fact,))))
    data = [warning for _, warning in c.log.warnings if warning.what == alarms.DATA_BAD]
    if data:
        fact = Fact(f'{len(data)} lines like "{data[0].text[:120]}"', len(data))
        found.append(("bad-input-data", Verdict(SCANNED, "A scan found NaN or Inf in the data.", (fact,))))
    return found
