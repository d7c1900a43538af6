"""Something failed, and no cause is likelier than not.

What happens
    A value became non-finite or the loss diverged, and the trace does not hold
    enough to say why. The candidates are listed with what speaks for them.

How to tell it from its neighbours
    It is no cause: every cause whose confidence reached 0.5 would be named.

What to do
    Record the step again with every operation watched:
    nandoctor record --watch-step N -- COMMAND. If nothing helps, check what the
    guide checks last: is PyTorch too old, does CUDA match it, is the GPU driver
    sound, is the data set corrupt?

Sources
    nan-guide (if nothing helps)
"""
