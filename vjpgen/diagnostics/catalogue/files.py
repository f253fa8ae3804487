"""The family VJP9xx: files, as they are read and written."""

from __future__ import annotations

from vjpgen.diagnostics.catalogue.entry import Entry

ENTRIES = (
    Entry(
        "VJP901",
        "the output exists and was not written by vjpgen",
        "Where the generated module should go there is a file that does not begin as generated "
        "modules do. It is left alone. Move it away, or choose another `suffix` in "
        "`[tool.vjpgen]`. Under `--out-dir` it is a file that `.vjpgen-out` does not know, or a "
        "link that leads elsewhere.",
    ),
    Entry(
        "VJP902",
        "reading or writing failed",
        "The operating system refused to read or write the file. The other files are built all "
        "the same, and the exit status is 2.",
    ),
    Entry(
        "VJP903",
        "the source cannot be carried over byte for byte",
        "Everything outside the annotated functions is carried over unchanged, and here the "
        "parser would have changed something: it loses a form feed or a lone carriage return, "
        "for instance. Or the source is nested too deeply to be parsed. Nothing is written.",
    ),
    Entry(
        "VJP904",
        "drift: the generated module is missing, stale, edited by hand or orphaned",
        "`vjpgen build --check` found that the generated module is not what `vjpgen build` would "
        "write. Missing: there is none. Stale: the source has changed since. Edited by hand: its "
        "digest does not fit its text; put the change into the source. Orphaned: its source is "
        "gone or has no annotation any more. Under `--out-dir` the same is said of copied files, "
        "and of `.vjpgen-out`, the record of what was written there.",
    ),
)
