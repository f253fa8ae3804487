"""Progress and colours."""

from __future__ import annotations

import io

import pytest

from vjpgen.cli.output import Progress, Voice, wants_color
from vjpgen.cli.wishes import _print


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(stream: io.StringIO, *, quiet: bool = False, start: float = float("-inf")) -> str:
    progress = Progress(Voice(quiet=quiet), stream, start)
    for done in range(3):
        progress(done, 2)
    return stream.getvalue()


def test_progress_on_a_terminal_is_wiped_out_in_the_end():
    text = _shown(_Terminal())
    assert "0/2" in text
    assert "1/2" in text
    assert text.endswith("\r\x1b[K")


def test_no_progress_elsewhere():
    assert _shown(io.StringIO()) == ""
    assert _shown(_Terminal(), quiet=True) == ""
    assert _shown(_Terminal(), start=float("inf")) == ""


@pytest.mark.parametrize(
    ("environment", "on_terminal", "in_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colors(
    environment: dict[str, str],
    on_terminal: bool,
    in_pipe: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_color(_Terminal()) == on_terminal
    assert wants_color(io.StringIO()) == in_pipe


def test_a_difference_on_a_terminal_does_not_steer_it(monkeypatch: pytest.MonkeyPatch):
    text = "+a\x1b[2J\n \tb\r\n"
    for stream, printed in ((_Terminal(), "+a\ufffd[2J\n     b\n"), (io.StringIO(), text)):
        monkeypatch.setattr("sys.stdout", stream)
        _print(text)
        assert stream.getvalue() == printed
