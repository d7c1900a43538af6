"""Masks what looks like a secret in a command line: traces are sent to strangers."""

import re
from collections.abc import Sequence

MASK = "***"
_WORD = r"(?:api|access|secret|auth|private)?(?:token|key|password|passwd|pwd|secret|credentials?)"
_NAME = rf"(?:[\w.+-]*[_.-])?{_WORD}"
_QUOTED = r"(?:\"[^\"]*\"|'[^']*'|\S+)"
_FLAG = re.compile(rf"--?{_NAME}", re.IGNORECASE)  # --token X, --api-key X
_ASSIGNED = re.compile(rf"((?<![\w.-])-{{0,2}}{_NAME}=){_QUOTED}", re.IGNORECASE)  # HF_TOKEN=X
_SPOKEN = re.compile(rf"((?<!\S)--{_NAME}\s+)(?!-){_QUOTED}", re.IGNORECASE)  # sh -c "... --token X"
_LOGIN = re.compile(r"(\w://[^\s/:@]*:)[^\s/@]+(?=@)")  # https://me:X@host
_VALUE = re.compile(
    r"\b(?:hf_|api_org_|sk-|pk-|gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AKIA|ASIA|AIza|wandb_v1_|eyJ)[\w.-]{8,}"
)


def masked(command: Sequence[str]) -> list[str]:
    """The command line with secrets replaced, by their option's name or by their look."""
    shown: list[str] = []
    hide_next = False
    for argument in command:
        if hide_next and not argument.startswith("-"):
            shown.append(MASK)
            hide_next = False
            continue
        hide_next = _FLAG.fullmatch(argument) is not None
        for pattern in (_ASSIGNED, _SPOKEN, _LOGIN):
            argument = pattern.sub(rf"\1{MASK}", argument)
        shown.append(_VALUE.sub(MASK, argument))
    return shown
