"""One file per place where something can be seen; each has install(run)."""
