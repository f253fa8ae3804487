"""The language server: what the compiler knows of a file, shown while it is typed.

    document   the text of a buffer, and positions as the client counts them
    reading    annotations as text, for a cursor, however unfinished
    trees      a syntax tree of a buffer that may not parse
    project    the compiler's view of a buffer: its project, configuration and siblings
    view       a buffer, its tree and what the compiler makes of it, at one moment
    hover, definition, completion, actions, skeletons
               one feature each: pure functions from a view and a place to a result
    choices    the values of a key, where they can be listed
    edits      changes of text that a feature proposes
    convert    results as the protocol has them
    handlers   which question of a client is answered by which feature
    server     pygls, the only module that talks to a client

Nothing is imported here, so that `vjpgen lsp --help` needs no pygls.
"""
