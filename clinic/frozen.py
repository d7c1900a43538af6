"""The reported half is frozen by hash before its first run: `python -m clinic.frozen` writes clinic/reported.sha256.

A program that is looked into because its verdict was wrong counts as tune from then on (moved.txt).
"""

import hashlib
import sys

from clinic.cases import CLINIC

FILE = CLINIC / "reported.sha256"


class Changed(SystemExit):
    """The reported half is not what was frozen."""


def hashes() -> dict[str, str]:
    """Every program and every table of the reported half."""
    files = sorted(file for file in (CLINIC / "reported").iterdir() if file.suffix in (".py", ".toml"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def digest_of(half: str) -> str:
    files = sorted(file for file in (CLINIC / half).iterdir() if file.suffix in (".py", ".toml"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def check() -> None:
    """Raises Changed, in words, where a file differs from what was frozen."""
    kept = dict(reversed(line.split("  ")) for line in FILE.read_text().splitlines()) if FILE.exists() else {}
    found = hashes()
    changed = sorted(name for name in {*kept, *found} if kept.get(name) != found.get(name))
    if changed:
        raise Changed(f"the reported half is not as it was frozen: {', '.join(changed)} (see clinic/README.md)")


def main() -> int:
    FILE.write_text("".join(f"{digest}  {name}\n" for name, digest in hashes().items()))
    print(f"{len(hashes())} files frozen in {FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
