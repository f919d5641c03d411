"""What the converters are given: a user's module as a flat list of operators with a fixed size.

::

    capture    module → torch.export's program → a flat module, constants folded
    rewrites   operators that a converter has no form of, as ones that it has; one function each
    attempts   the module as given first, rewritten where a converter does not take it
    blame      the layer and operator that a converter stops at, in a sentence
"""
