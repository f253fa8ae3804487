"""What an editor can do about a finding, and about a rule that has no forward function yet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from vjpgen.compiler.attach import first_row
from vjpgen.compiler.insertion import added_import
from vjpgen.compiler.inspection import InspectedRule, Inspection
from vjpgen.compiler.report import nearest
from vjpgen.compiler.source import Position
from vjpgen.diagnostics import Diagnostic, Span
from vjpgen.diagnostics.suppressions import read_suppressions
from vjpgen.lsp import skeletons
from vjpgen.lsp.choices import choices
from vjpgen.lsp.definition import RULES
from vjpgen.lsp.edits import TextEdit, applied, of_compiler
from vjpgen.lsp.reading import AnnotationText, comments_of
from vjpgen.lsp.skeletons import Need, Skeleton, Style
from vjpgen.lsp.view import View

_INSTEAD = re.compile(r"(?:did you mean|write) `([\w.]+)`")
_WORD = re.compile(r"[A-Za-z_][\w.]*")
_LOOKS_ALIKE = re.compile(r"#+[!:\s]*custom[-_ ]?vjp\s*(?P<sign>[:;=(,]?)\s*", re.IGNORECASE)
_SUPPRESSION = re.compile(r"[ \t]*#\s*vjpgen:\s*ignore(?![\w-])(?:\s*\[([^\]#]*)\]|[^#]*)")
_NOT_WRITABLE = ("VJP201", "VJP202", "VJP205", "VJP206", "VJP207")
_LIKELY = 0.75


@dataclass(frozen=True)
class Action:
    """Something to do.

    Args:
        title: what it does.
        edits: the changes of the buffer.
        finding: the finding that it mends; None where nothing is wrong.
        preferred: whether it is what one would most likely want.
    """

    title: str
    edits: tuple[TextEdit, ...]
    finding: Diagnostic | None = None
    preferred: bool = False


def actions(view: View, first: int, last: int) -> tuple[Action, ...]:
    """What can be done about the findings in these rows, and about the rules there."""
    found: list[Action] = []
    for finding in view.findings:
        if finding.span.row <= last and finding.span.end_row >= first:
            found += _mends(view, finding)
    for rule in () if view.inspection is None else view.inspection.rules:
        span = rule.facts.annotation.span
        if span.row <= last and span.end_row >= first:
            found += _spelt_out(view, rule)
    once = {(action.title, action.edits): action for action in reversed(found)}
    return tuple(reversed(once.values()))


def _mends(view: View, finding: Diagnostic) -> Iterator[Action]:
    if finding.code != "VJP007":  # its help lists every value
        yield from _instead(view, finding)
    match finding.code:
        case "VJP101" | "VJP006":
            yield from _written(view, finding)
        case "VJP004":
            yield from _spelling(view, finding)
        case "VJP005":
            yield from _joined(view, finding)
        case "VJP007":
            yield from _choices(view, finding)
        case "VJP009":
            yield from _unused(view, finding)
    yield from _suppressed(view, finding)


def _instead(view: View, finding: Diagnostic) -> Iterator[Action]:
    """What the finding's help says one may have meant."""
    match = _INSTEAD.search(finding.help or "")
    span = finding.span
    if match is None or span.row != span.end_row:
        return
    better = match[1]
    annotation = view.annotation(span.row)
    if annotation is not None and better in {part.value for part in annotation.parts}:
        return  # the forward rule is not what was meant by the backward one
    text = view.document.line(span.row)[: span.end_column - 1]
    words = [m for m in _WORD.finditer(text, span.column - 1) if m[0] != better]
    if words:
        likeness, worst = max(
            ((_likeness(m[0], better), m) for m in words), key=lambda pair: pair[0]
        )
        edit = TextEdit((span.row, worst.start()), (span.row, worst.end()), better)
        title = f"Replace `{worst[0]}` with `{better}`"
        yield Action(title, (edit,), finding, preferred=likeness > _LIKELY)


def _likeness(word: str, better: str) -> float:
    return SequenceMatcher(None, word, better).ratio()


def _choices(view: View, finding: Diagnostic) -> Iterator[Action]:
    """The values that a key can take, the likeliest first; a rule's name without its quotes."""
    span = finding.span
    annotation = view.annotation(span.row)
    offset = None if annotation is None else annotation.offset((span.row, span.column - 1))
    part = None if annotation is None or offset is None else annotation.at(offset)
    if annotation is None or part is None:
        return
    written = (part.value or "").strip("\"' ")
    is_quoted = written != (part.value or "").strip()
    if part.name in RULES and is_quoted and _WORD.fullmatch(written):
        edit = TextEdit(*_ends(span), written)
        yield Action("Leave out the quotes", (edit,), finding, preferred=True)
    lowered = {choice.lower(): choice for choice in choices(part.name)}
    near = nearest(written.lower(), lowered)
    for choice in [lowered[near]] if near else lowered.values():
        edit = TextEdit(*_ends(span), choice)
        yield Action(f"Replace `{written}` with `{choice}`", (edit,), finding, bool(near))


def _spelling(view: View, finding: Diagnostic) -> Iterator[Action]:
    """A comment that nearly is an annotation, spelt as one."""
    row, column = finding.span.row, finding.span.column - 1
    text = view.document.line(row)[column : finding.span.end_column - 1]
    match = _LOOKS_ALIKE.search(text)
    if match is None:
        return
    keys, _, rest = text[match.end() :].partition("#")
    if match["sign"] == "(":
        keys = keys.rstrip().removesuffix(")")
    pieces = [text[: match.start()].rstrip(), f"# {rest.strip()}" if rest.strip() else ""]
    after = "".join(f"  {piece}" for piece in pieces if piece)
    edit = TextEdit(
        (row, column), (row, column + len(text)), f"# custom-vjp: {keys.strip()}{after}"
    )
    comments = comments_of(replace(view.document, text=applied(view.document, [edit])))
    if any(comment.row == row and comment.is_annotation for comment in comments):
        yield Action("Write it as an annotation: `# custom-vjp:`", (edit,), finding, True)


def _joined(view: View, finding: Diagnostic) -> Iterator[Action]:
    """Take out the blank lines that part an annotation from its function."""
    annotation = view.annotation(finding.span.row)
    function = None if annotation is None else view.function(annotation)
    if annotation is None or function is None or "blank line" not in finding.message:
        return
    rows = range(annotation.last_row + 1, first_row(function[0]))
    blank = [row for row in rows if not view.document.line(row).strip()]
    edits = tuple(TextEdit((row, 0), (row + 1, 0), "") for row in blank)
    yield Action("Remove the blank line", edits, finding, preferred=True)


def _unused(view: View, finding: Diagnostic) -> Iterator[Action]:
    """Remove one code of a suppression, or all of it."""
    span = finding.span
    line = view.document.line(span.row)
    for match in _SUPPRESSION.finditer(line):
        if not match.start() <= span.column - 1 < match.end():
            continue
        own = line[span.column - 1 : span.end_column - 1]
        codes = re.findall(r"[^\s,]+", match[1] or "")
        left = [code for code in codes if code != own]
        if codes and left:
            edit = TextEdit((span.row, match.start(1)), (span.row, match.end(1)), ", ".join(left))
            yield Action(f"Remove the unused `{own}`", (edit,), finding, preferred=True)
        else:
            start, end = (span.row, match.start()), (span.row, match.end())
            if match[0].strip() == line.strip() and span.row < len(view.document.lines):
                start, end = (span.row, 0), (span.row + 1, 0)
            edit = TextEdit(start, end, "")
            yield Action("Remove the unused suppression", (edit,), finding, preferred=True)


def _suppressed(view: View, finding: Diagnostic) -> Iterator[Action]:
    """Silence a finding that is no error on its line."""
    is_file_level = finding.code.startswith(("VJP4", "VJP9"))
    if finding.is_error or is_file_level or finding.code == "VJP009":
        return
    row, line = finding.span.row, view.document.line(finding.span.row)
    match = _SUPPRESSION.search(line)
    if match is not None and match[1] is not None:
        start = (row, match.end(1))
        text = f", {finding.code}" if match[1].strip() else finding.code
    else:
        start = (row, len(line.rstrip()))
        text = f"  # vjpgen: ignore[{finding.code}]"
    edit = TextEdit(start, start, text)
    data = replace(view.document, text=applied(view.document, [edit])).data
    if any((each.code, each.span.row) == (finding.code, row) for each in read_suppressions(data)):
        yield Action(f"Ignore {finding.code} on this line", (edit,), finding)


def _written(view: View, finding: Diagnostic) -> Iterator[Action]:
    """Write the rules that an annotation names and the file lacks."""
    inspection = view.inspection
    rule = None if inspection is None else inspection.at(finding.span.row)
    if inspection is None or rule is None or not _is_writable(rule):
        return
    lacking = _lacking(rule)
    key = "bwd" if finding.code == "VJP006" else _key_at(view, finding.span)
    if key not in lacking:
        return
    yield _write(view, inspection, rule, {key: lacking[key]}, finding)
    if len(lacking) > 1:
        yield _write(view, inspection, rule, lacking, finding)


def _spelt_out(view: View, rule: InspectedRule) -> Iterator[Action]:
    """Write the forward rule that a rule goes without, where the same residual results."""
    inspection, facts = view.inspection, rule.facts
    if inspection is None or rule.findings or facts.fwd is not None or not _is_writable(rule):
        return
    if skeletons.fwd_primals(facts) == skeletons.slots(facts):
        names = {"fwd": skeletons.free_name(facts, "fwd")}
        yield _write(view, inspection, rule, names, None)


def _is_writable(rule: InspectedRule) -> bool:
    unfit = any(item.code in _NOT_WRITABLE for item in rule.findings)
    return bool(rule.target.template) and not unfit and skeletons.can_be_written(rule.facts)


def _lacking(rule: InspectedRule) -> dict[str, str]:
    """The keys whose functions are not there, with the names that these would have."""
    facts, found = rule.facts, {}
    for key, reference in (("fwd", facts.fwd), ("bwd", facts.bwd)):
        if (
            reference is not None
            and reference.undefined
            and isinstance(reference.expression, ast.Name)
        ):
            found[key] = reference.expression.id
    if facts.bwd is None:
        found["bwd"] = skeletons.free_name(facts, "bwd")
    return found


def _key_at(view: View, span: Span) -> str:
    annotation = view.annotation(span.row)
    offset = None if annotation is None else annotation.offset((span.row, span.column - 1))
    part = None if annotation is None or offset is None else annotation.at(offset)
    return part.name if part is not None else ""


def _write(
    view: View,
    inspection: Inspection,
    rule: InspectedRule,
    names: dict[str, str],
    finding: Diagnostic | None,
) -> Action:
    """Put skeletons above the annotated function, and their keys into the annotation."""
    facts, source = rule.facts, inspection.source
    line = source.line(facts.node.lineno)
    style = Style(line[: source.start(facts.node)[1]], _unit(inspection, rule))
    written = [_skeleton(rule, key, name, style) for key, name in names.items()]
    needs = dict.fromkeys(need for skeleton in written for need in skeleton.needs)
    edits = [_import(inspection, need) for need in needs]
    edits.append(_above(view, rule, [skeleton.lines for skeleton in written]))
    annotation = view.annotation(facts.annotation.row)
    given = facts.annotation.keys
    if annotation is not None:
        edits += [_with_key(annotation, key, names[key]) for key in names if key not in given]
    kinds = {"fwd": "forward", "bwd": "backward"}
    listed = " and ".join(f"the {kinds[key]} rule `{name}`" for key, name in names.items())
    newline = view.document.newline
    whole = tuple(replace(edit, text=edit.text.replace("\n", newline)) for edit in edits)
    return Action(f"Write {listed}", whole, finding)


def _skeleton(rule: InspectedRule, key: str, name: str, style: Style) -> Skeleton:
    facts = rule.facts
    if key == "fwd":
        return skeletons.write_fwd(facts, rule.target, name, style)
    if facts.fwd is None:
        saved = skeletons.saved_by_default(facts)
    elif facts.fwd.undefined:
        saved = skeletons.saved_by_skeleton(facts)
    else:
        saved = skeletons.saved_by(facts, facts.fwd)
    return skeletons.write_bwd(facts, rule.target, saved, name, style)


def _unit(inspection: Inspection, rule: InspectedRule) -> str:
    """One level of indentation, as the function's own body has it."""
    node, source = rule.facts.node, inspection.source
    body = node.body[0]
    own = source.line(node.lineno)[: source.start(node)[1]]
    inner = source.line(body.lineno)[: source.start(body)[1]]
    is_deeper = body.lineno > node.lineno and inner.startswith(own) and not inner.strip()
    return inner[len(own) :] if is_deeper and inner != own else inspection.unit


def _above(view: View, rule: InspectedRule, functions: Sequence[tuple[str, ...]]) -> TextEdit:
    """Insert functions above the comments that touch a function, with blank lines as usual."""
    node, document = rule.facts.node, view.document
    row = first_row(node)
    while row > 1 and document.line(row - 1).lstrip().startswith("#"):
        row -= 1
    gap = 2 if rule.facts.scope.is_module and node.col_offset == 0 else 1
    blank = 0
    while row - blank > 1 and not document.line(row - blank - 1).strip():
        blank += 1
    before = document.line(row - blank - 1).partition("#")[0].rstrip()
    opens = row - blank <= 1 or before.endswith(":")
    text = "\n" * (0 if opens else max(gap - blank, 0))
    for lines in functions:
        text += "\n".join(lines) + "\n" * (gap + 1)
    return TextEdit((row, 0), (row, 0), text)


def _import(inspection: Inspection, need: Need) -> TextEdit:
    """Import a module: in front of the first of its kind that sorts behind it, or at the end."""
    source, tree = inspection.source, inspection.tree
    for statement in tree.body:
        if isinstance(statement, ast.Import) and _sorts_behind(statement.names[0].name, need):
            place = (statement.lineno, 0)
            return TextEdit(place, place, f"{need.line}\n")
    edit = of_compiler(source, added_import(source, tree, need.line))
    return replace(edit, text=edit.text.replace("\r\n", "\n"))


def _sorts_behind(name: str, need: Need) -> bool:
    kin = ("flax", "jax", "numpy", "optax", "orbax")
    return name > need.module and name.split(".")[0] in kin


def _with_key(annotation: AnnotationText, key: str, name: str) -> TextEdit:
    """Add a key: `fwd` in front of the others, `bwd` behind them."""
    parts = annotation.parts
    if not parts:
        offset = len(annotation.text.rstrip())
        space = " "
        place = annotation.place(offset)
        return TextEdit(place, place, f"{space}{key}={name}")
    if key == "fwd":
        place = annotation.place(parts[0].name_start)
        return TextEdit(place, place, f"{key}={name}, ")
    text = annotation.text[: parts[-1].end].rstrip()
    comma = "" if annotation.text[parts[-1].end :].strip().startswith(",") else ","
    offset = len(text) if comma else annotation.text.index(",", parts[-1].end) + 1
    place = annotation.place(offset)
    return TextEdit(place, place, f"{comma} {key}={name}")


def _ends(span: Span) -> tuple[Position, Position]:
    return (span.row, span.column - 1), (span.end_row, span.end_column - 1)
