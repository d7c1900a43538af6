"""Places and counts of a log in words."""

from nandoctor.causes.wording import num
from nandoctor.logs.table import Log


def when(log: Log, place: int) -> str:
    """ " at step 30, in epoch 2", as far as the log says; a leading space, or nothing at all."""
    row, epoch = log.rows[place], log.epochs[place]
    said = [f"at step {row.step}"] if row.step is not None else []
    said += [f"in epoch {epoch}"] if epoch is not None else []
    return f" {', '.join(said)}" if said else f" at record {place + 1}"


def counted(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith(("s", "ch")) else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def last_values(values: tuple[float, ...]) -> str:
    return ", ".join(num(value) for value in values)
