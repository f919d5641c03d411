"""Training: one loop, with losses, data and hooks given.

::

    loop        steps, rates, averages, checkpoints, interruption
    trainer     our network on labelled scenes; config says how
    scenes      the stream of batches: cache → augment → targets
    losses      of the three heads under partial labels
    parallel    several processes that learn what one would
    validate    quick figures while training; board shows them
"""
