"""`python -m vjpgen`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the version alone is answered without loading anything."""
    if sys.argv[1:] == ["--version"]:
        from vjpgen._version import __version__

        print(f"vjpgen {__version__}")
        return
    from vjpgen.cli import main as run

    run()


if __name__ == "__main__":
    main()
