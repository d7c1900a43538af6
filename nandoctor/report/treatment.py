"""What active mode did, in sentences: what was wrong, what was done, whether it helped."""

from nandoctor.evidence import Action
from nandoctor.evidence.treated import helped, in_force

SHORT = 6  # lines of the short report


def lines(actions: tuple[Action, ...], full: bool) -> list[str]:
    found = [_line(action, actions) for action in actions if action.event in ("applied", "advised", "aside")]
    once = {(a.treatment, a.what): a for a in reversed(actions) if a.event == "once"}  # the first of each
    for action in once.values():
        times = max(other.count for other in actions if other.event == "once" and other.what == action.what)
        often = f"from step {action.step} on, {times} times" if times > 1 else f"step {action.step}, once"
        found.append(f"{often}: {action.what} ({action.why})")
    if not full and len(found) > SHORT:
        found = [*found[: SHORT - 1], f"{len(found) - SHORT + 1} more: nandoctor diagnose --full"]
    if in_force(actions):
        found.append("to make it permanent: nandoctor diagnose --patch")
    return found


def _line(action: Action, actions: tuple[Action, ...]) -> str:
    head = f"step {action.step}, {action.cause}: {action.what}"
    if action.event != "applied":
        return head
    if helped(action, actions):
        return f"{head}: it helped"
    if action not in in_force(actions):
        return f"{head}: it did not help, and was withdrawn"
    return f"{head}: the run ended before it was clear whether it helps"
