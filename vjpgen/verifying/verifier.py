"""Verifying one rule after the other, whatever becomes of the process that does so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from vjpgen.testing.report import RuleReport, Status
from vjpgen.verifying.dumps import where
from vjpgen.verifying.process import Child, Clock, DiedError, TimeUpError
from vjpgen.verifying.requests import Manner, Request, problem
from vjpgen.verifying.targets import Target

_START_SECONDS = 300.0
_GRACE_SECONDS = 0.5
_LAST_LINES = 12


class StartError(Exception):
    """The process that verifies does not start; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """A rule's report, and what its code has printed."""

    report: RuleReport
    printed: str = ""


@dataclass(frozen=True)
class _Ruin:
    """What has become of a process while it imported a module, and so of each rule in there."""

    status: Status
    message: str
    printed: str


class Verifier:
    """Verifies rules in a process of its own; a context manager, at whose end that process ends.

    The process is kept for the next rule. A new one goes on where one hangs or dies, and where
    modules are imported from another folder, so that names of one project never mean modules of
    another.

    Args:
        manner: how rules are verified.
    """

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._child: Child | None = None
        self._root: str | None = None
        self._ruins: dict[str, _Ruin] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.end()
        self._child = None

    def verify(self, target: Target) -> Outcome:
        """Verify one rule.

        Raises:
            StartError: there is no process to do it.
        """
        request = _request(target, self._manner)
        if target.errors:
            codes = ", ".join(sorted({each.code for each in target.errors}))
            message = f"{request.filename} has errors: {codes}; `vjpgen check` shows them"
            return Outcome(request.report("error", problem(message)))
        if target.path in self._ruins:
            ruin = self._ruins[target.path]
            return Outcome(request.report(ruin.status, problem(ruin.message)), ruin.printed)
        if self._child is None or self._root != target.root:
            self._restart(target.root)
        assert self._child is not None
        try:
            return self._ask(self._child, request)
        except BaseException:
            self.close()
            raise

    def _restart(self, root: str | None) -> None:
        self.close()
        self._child, self._root = Child(), root
        try:
            self._child.receive(_START_SECONDS)
        except (TimeUpError, DiedError) as error:
            said = self._child.said().strip()
            how = str(error) or f"it was not ready after {_START_SECONDS:g} s"
            self.close()
            raise StartError(f"the process that verifies did not start: {how}\n{said}") from None

    def _ask(self, child: Child, request: Request) -> Outcome:
        limit = self._manner.time_limit
        whole, clock, is_imported = Clock(limit), Clock(limit), False
        child.send(request)
        try:
            while True:
                message = child.receive(clock.left + _GRACE_SECONDS)
                if "report" in message:
                    report = RuleReport.from_data(message["report"])
                    printed = child.said()
                    if report.status == "crashed":
                        self.close()
                    return Outcome(report, printed)
                is_imported, clock = True, Clock(limit)
        except TimeUpError:
            printed, at = where(child.said())
            status, how = "timeout", f"took longer than {limit:g} s{at}"
        except DiedError as error:
            printed, at = where(child.said())
            status = "crashed"
            how = f"ended the process that verifies: {error}{at}{_last(printed)}"
        self.close()
        if is_imported:
            message = f"`{request.name}` {how}"
        else:
            message = f"importing {request.filename} {how}"
            self._ruins[request.path] = _Ruin(status, message, printed)
        return Outcome(request.report(status, problem(message), seconds=whole.spent), printed)


def _last(printed: str) -> str:
    """Return the last lines of what was printed, to stand below a message."""
    lines = printed.rstrip().splitlines()[-_LAST_LINES:]
    return "\n".join(("\nit printed last:", *(f"  {line}" for line in lines))) if lines else ""


def _request(target: Target, manner: Manner) -> Request:
    info, span = target.info, target.info.span
    keys = dict(info.keys)
    return Request(target.path, info.name, info.filename, span.row, span.column, keys, manner)


def without_example_fails(report: RuleReport) -> RuleReport:
    """Return the report of a rule whose lack of an example is a failure.

    Where checks were run on an example, there was nothing in it to verify.
    """
    if report.status != "unverified" or report.checks:
        return report
    findings = tuple(replace(each, severity="error") for each in report.findings)
    return replace(report, status="failed", findings=findings)
