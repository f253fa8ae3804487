"""`python -m vjpgen`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; what can be answered without loading it is."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from vjpgen._version import __version__

        _say(f"vjpgen {__version__}\n", "stdout")
    elif arguments[:1] != ["build"] or not _is_up_to_date(arguments):
        from vjpgen.cli import main as run

        run()


def _is_up_to_date(arguments: list[str]) -> bool:
    """Say again what the last build said, if nothing has changed since."""
    from vjpgen.building import stamp

    said = stamp.find(arguments)
    if said is not None:
        _say(said, "stderr")
    return said is not None


def _say(text: str, stream: str) -> None:
    """Write to a stream; end with status 2 where standard output cannot be written."""
    target = getattr(sys, stream)
    if target is None:  # closed outright
        return
    try:
        target.write(text)
        target.flush()
    except OSError as error:
        setattr(sys, stream, None)  # else it is flushed once more at the end
        if stream == "stdout" and not isinstance(error, BrokenPipeError):
            _say(f"Error: {error}\n", "stderr")
            sys.exit(2)


if __name__ == "__main__":
    main()
