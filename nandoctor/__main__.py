"""python -m nandoctor, and the command nandoctor."""

import sys


def main() -> int:
    from nandoctor.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
