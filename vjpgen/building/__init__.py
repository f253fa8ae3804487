"""From paths to generated modules: which files, which outputs, and what becomes of them.

    paths -> selection -> plan -> compile -> sink

Nothing here executes a user's code, and libcst is imported only once a file with an annotation
is compiled.
"""
