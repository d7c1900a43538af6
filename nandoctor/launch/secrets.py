"""Masks what looks like a secret in a command line: traces are sent to strangers."""

import re
from collections.abc import Sequence
from itertools import pairwise

MASK = "***"
_ALWAYS = r"[\w.+-]*(?:passw(?:or)?d|passphrase|secret|credential)s?"  # whatever stands before the word
_KIND = r"(?:api|access|secret|auth|private|account|shared|client|signing|encryption|subscription)?"
_WORD = rf"{_KIND}[_.-]?keys?|access[_.-]?key[_.-]?id|pass|pwd?|auth(?:orization)?|bearer|access|creds?|jwt|cookie"
_NAME = rf"(?:{_ALWAYS}|(?:[\w.+-]*[_.-])?(?:{_WORD})|[\w.+-]*token)"
_QUOTED = r"(?:\"[^\"]*\"|'[^']*'|[^\s&;,]+)"
_START = r"(?<![\w.+-])"

# each: a name, what stands between, the value
_ASSIGNED = rf"{_START}(-{{0,2}}{_NAME})(=)({_QUOTED})"  # --hf-token=X, HF_TOKEN=X
_SPOKEN = rf"(?<!\S)(--?{_NAME})(\s+)((?!-){_QUOTED})"  # sh -c "... --token X"
_WRITTEN = rf"{_START}({_NAME})([\"']?\s*[:=]\s*)(\"[^\"]+\"|'[^']+')"  # {"api_key": "X"}
_SHORT = rf"(?<!\S)(-p)(\s+|=)((?!-){_QUOTED})"  # in lower case only: `python -P train.py`
_HEADER = r"((?:authorization|x-[\w-]*(?:key|token)|cookie))(\s*[:=]\s*(?:(?:bearer|basic|token)\s+)?)([^\s\"']+)"
_SCHEME = r"(?<![\w-])(bearer)(\s+)([^\s\"']{6,})"
_LOGIN = r"(\w://[^\s/:@]*)(:)([^\s/@]+)(?=@)"  # https://me:X@host
_BARE_LOGIN = r"(\w:/)(/)([^\s/:@]{20,})(?=@)"  # https://X@host
_USER = r"(?<!\S)(-u|--user)([\s=]+[^\s:/.]+:)(\S+)"  # curl -u me:X
_SIGNED = r"([?&](?:sig|signature|x-amz-signature))(=)([^\s&]+)"
_PATTERNS = [re.compile(_SHORT)] + [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        _HEADER, _SCHEME, _ASSIGNED, _SPOKEN, _WRITTEN, _LOGIN, _BARE_LOGIN, _USER, _SIGNED,
    )
]  # fmt: skip
_FLAG = re.compile(rf"--?{_NAME}", re.IGNORECASE)  # --token X, in two arguments
_HEADER_WORD = re.compile(r"bearer|(?:authorization|x-[\w-]*(?:key|token)|cookie):", re.IGNORECASE)
_SCHEME_WORD = re.compile(r"bearer|basic|token", re.IGNORECASE)
_OTHER_P = re.compile(r"(?:^|[\s/])(?:srun|sbatch|salloc|mkdir|cp|ssh|pytest)(?=\s|$)")  # their -p is no password

# what leaves a value readable
_STRICT = re.compile(rf"-*{_ALWAYS}", re.IGNORECASE)  # a password may be a number
_ORDINARY = re.compile(  # special tokens of a tokenizer, keys of a table, a switch without a value
    r"-*(?:(?:[\w.]*[_.-])?(?:bos|eos|pad|unk|mask|sep|cls|stop|start|end|image|special|prompt)[_-]?token"
    r"|(?:[\w.]*[_.-])?(?:sort|label|image|text|input|output|target|column|prompt|primary)[_-]key"
    r"|no[_-][\w-]+)",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"[\"']?(?:[+-]?[\d.,:eE_+-]{1,9}|true|false|none|null|yes|no|on|off|auto|lambda|\S+\.py)[\"']?", re.I
)

# values that tell by their look
_ISSUED = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_|api_org_|sk-|pk-|[srp]k_(?:live|test)_|gh[pousr]_|github_pat_|glpat-|xox[a-z]-|"
    r"xapp-|AKIA|ASIA|AIza|ya29\.|wandb_v1_|eyJ|nvapi-|gsk_|r8_|npm_|pypi-|dckr_pat_|SG\.)[\w.-]{8,}"
)
_HEX = re.compile(r"(?<![A-Za-z0-9/])(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![A-Za-z0-9])")
_HEX_NAME = re.compile(r"(?:rev|revision|commit|sha\d*|hash|md5|checksum|digest|ref|id)(?:[= ].*)?", re.IGNORECASE)
_DENSE = re.compile(r"(?<![\w+/])[\w+/-]{32,}={0,2}")
_LEAST_CHANGES = 0.45  # neighbours of different class (A, a, 0) among pairs: random has 0.6, CamelCase names 0.4


def masked(command: Sequence[str]) -> list[str]:
    """The command line with secrets replaced, by their option's name or by their look."""
    shown: list[str] = []
    name = ""  # of the option whose value comes next
    for argument in command:
        before = shown[-1] if shown else ""
        if name and not argument.startswith("-"):
            if name[-1] == ":" and _SCHEME_WORD.fullmatch(argument):
                shown.append(argument)
                continue
            shown.append(argument if _open(name, argument) else MASK)
            name = ""
            continue
        name = _waits_for_value(argument, shown)
        shown.append(_without(argument, hashes=_HEX_NAME.fullmatch(before.rpartition("-")[2]) is not None))
    return shown


def _waits_for_value(argument: str, before: Sequence[str]) -> str:
    """The argument itself where it is an option or a header whose value is the next one."""
    if argument == "-p":
        return "" if any(_OTHER_P.search(word) for word in before) else argument
    if argument in ("-u", "--user"):
        return argument
    return argument if _FLAG.fullmatch(argument) or _HEADER_WORD.fullmatch(argument) else ""


def _without(text: str, hashes: bool) -> str:
    """The text with its secrets replaced; `hashes`: long hexadecimal numbers are ordinary here."""
    for pattern in _PATTERNS:
        text = pattern.sub(_hidden, text)
    text = _ISSUED.sub(MASK, text)
    if not hashes:
        text = _HEX.sub(lambda found: found[0] if _named_hash(found) else MASK, text)
    return _DENSE.sub(lambda found: MASK if _random(found[0]) else found[0], text)


def _hidden(found: re.Match[str]) -> str:
    if found[1] == "-p" and _OTHER_P.search(found.string[: found.start()]):
        return found[0]
    return found[0] if _open(found[1], found[3]) else f"{found[1]}{found[2]}{MASK}"


def _open(name: str, value: str) -> bool:
    """Whether a value is no secret, whatever the name may suggest."""
    if _ORDINARY.fullmatch(name):
        return True
    if name in ("-u", "--user"):
        return ":" not in value or "/" in value
    return not _STRICT.fullmatch(name) and _PLAIN.fullmatch(value) is not None


def _named_hash(found: re.Match[str]) -> bool:
    word = re.search(r"([A-Za-z0-9]+)[ =:@/]*$", found.string[: found.start()][-60:])
    return word is not None and _HEX_NAME.fullmatch(word[1]) is not None


def _random(text: str) -> bool:
    """Whether letters and digits follow each other as in a key, not as in a path or a name."""
    classes = ["0" if c.isdigit() else "A" if c.isupper() else "a" for c in text if c.isalnum()]
    if len(set(classes)) < 3:
        return False
    return sum(a != b for a, b in pairwise(classes)) >= _LEAST_CHANGES * (len(classes) - 1)
