"""One rule in the child: import, example, checks; whatever goes wrong gives a report."""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import CodeType, ModuleType

import jax

from vjpgen.importing.errors import CompileError
from vjpgen.importing.loader import code_of
from vjpgen.importing.loading import Source, find, hooked, load
from vjpgen.importing.settings import Settings
from vjpgen.testing.examples import Arguments, ExampleError, NoExampleError, argument_sets
from vjpgen.testing.failures import described
from vjpgen.testing.finding import Found, NotFoundError, find_rule
from vjpgen.testing.nested import NotAloneError, alone, calls_of
from vjpgen.testing.places import Place
from vjpgen.testing.report import Finding, RuleReport, Status
from vjpgen.testing.verifying import verify
from vjpgen.verifying.fidelity import is_faithful
from vjpgen.verifying.nested import claims_of, with_claims
from vjpgen.verifying.requests import Request, problem
from vjpgen.verifying.sets import merged

_X64 = "jax_enable_x64"
_CALLS = 4  # of a nested rule, with other static arguments or shapes each


class _SettledError(Exception):
    """The rule's report is settled before the checks are through."""

    def __init__(self, status: Status, finding: Finding) -> None:
        super().__init__(finding.message)
        self.status: Status = status
        self.finding = finding


class Worker:
    """Verifies rules in this process.

    Modules are imported, and examples called, in the precision that the user's own programs have.
    For all else the process has 64-bit floats, callbacks in other threads among it.
    """

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType | _SettledError] = {}
        self._codes: dict[str, tuple[CodeType, CodeType]] = {}
        self._has_x64 = bool(jax.config.read(_X64))

    def load(self, request: Request) -> RuleReport | None:
        """Import a rule's module; return the report that says why it cannot be, else None."""
        source, settings = _source(request)
        if request.path not in self._modules:
            jax.config.update(_X64, self._has_x64)
            try:
                with hooked(source, settings), _said_of(f"importing {request.filename} failed"):
                    self._modules[request.path] = load(source, settings)
            except _SettledError as settled:
                self._modules[request.path] = settled
            self._has_x64 = bool(jax.config.read(_X64))
            jax.config.update(_X64, True)
        found = self._modules[request.path]
        if isinstance(found, _SettledError):
            return request.report(found.status, found.finding)
        return None

    def verify(self, request: Request) -> RuleReport:
        """Verify a rule whose module was imported."""
        start = time.perf_counter()
        module = self._modules[request.path]
        assert isinstance(module, ModuleType)
        try:
            with hooked(*_source(request)), jax.enable_x64(self._has_x64):
                report = self._verified(module, request)
        except _SettledError as settled:
            report = request.report(settled.status, settled.finding)
        return replace(report, seconds=time.perf_counter() - start)

    def _verified(self, module: ModuleType, request: Request) -> RuleReport:
        name, seed = request.name, request.manner.seed
        with _said_of(f"the example of `{name}` failed"):
            found = find_rule(module, name, request.keys)
            sets = argument_sets(found.example, jax.random.key(seed))
        with _said_of(f"`{found.called}` failed on {found.given}"):
            report = merged(_on_each(found, sets, request))
        return report if self._is_faithful(request) else _unfaithful(report)

    def _is_faithful(self, request: Request) -> bool:
        """Whether the function that was verified is the source's own, but for its rule."""
        if request.path not in self._codes:
            with open(request.path, "rb") as file:
                data = file.read()
            _, settings = _source(request)
            source = compile(data, request.path, "exec", dont_inherit=True)
            generated = code_of(request.path, data, settings, named=True)
            self._codes[request.path] = source, generated
        return is_faithful(*self._codes[request.path], request.name)


def _unfaithful(report: RuleReport) -> RuleReport:
    message = (
        f"in the generated module the code of `{report.name}` is not that of the source: this is "
        "an error of vjpgen's, please report it"
    )
    findings = (problem(message, "primal"), *report.findings)
    return replace(report, status="failed", findings=findings)


def _on_each(found: Found, sets: Sequence[Arguments], request: Request) -> Sequence[RuleReport]:
    """Verify a rule on the sets of arguments on which a nested one is called.

    Raises:
        NoExampleError: there is none.
    """
    reports, unreached = [], None
    for arguments in sets:
        try:
            reports.append(_on(found, arguments, request))
        except NoExampleError as error:
            unreached = error
    if not reports and unreached is not None:
        raise unreached
    return reports


def _on(found: Found, arguments: Arguments, request: Request) -> RuleReport:
    """Verify a rule on one set of arguments."""
    verified = functools.partial(
        verify,
        place=Place(request.name, request.filename, request.row, request.column),
        seed=request.manner.seed,
        directions=request.manner.directions,
    )
    if found.rule is not None:
        return verified(found.function, arguments)
    grad_vars = found.grad_vars
    try:
        calls = calls_of(found.function, arguments, request.name)[:_CALLS]
        every = [
            alone(found.function, arguments, request.name, grad_vars, number) for number in calls
        ]
        reports = [verified(each.function, each.arguments, claims=each.claims) for each in every]
        return merged(reports, "call")
    except NotAloneError as error:
        why = str(error)
    claims = claims_of(request.keys)
    report = verified(found.function, arguments, claims=claims, grad_vars=grad_vars)
    return with_claims(report, request.keys, found.called, why)


def _source(request: Request) -> tuple[Source, Settings]:
    manner = request.manner
    settings = Settings(False, manner.config, manner.base, True, request.path)
    return find(request.path), settings


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    """Turn what the user's code raises into a report that has the user's frames alone."""
    try:
        yield
    except NoExampleError as error:
        raise _SettledError("unverified", Finding("example", "note", str(error))) from None
    except (ExampleError, NotFoundError) as error:
        raise _SettledError("error", problem(str(error))) from None
    except CompileError as error:
        raise _SettledError("error", problem(f"{what}\n{error}")) from None
    except (SystemExit, MemoryError) as error:
        raise _SettledError("crashed", problem(f"{what}\n{_told(error)}")) from None
    except BaseException as error:
        raise _SettledError("error", problem(f"{what}\n{_told(error)}")) from None


def _told(error: BaseException) -> str:
    """Return an exception with the user's frames; with all of them where none is the user's."""
    text = described(error).rstrip()
    return text if '  File "' in text else "".join(traceback.format_exception(error)).rstrip()
