"""`python -m vjpgen`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; what can be answered without loading it is."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from vjpgen._version import __version__

        print(f"vjpgen {__version__}")
    elif arguments[:1] != ["build"] or not _is_up_to_date(arguments):
        from vjpgen.cli import main as run

        run()


def _is_up_to_date(arguments: list[str]) -> bool:
    """Say again what the last build said, if nothing has changed since."""
    from vjpgen.building import stamp

    said = stamp.find(arguments)
    if said is not None:
        sys.stderr.write(said)
    return said is not None


if __name__ == "__main__":
    main()
