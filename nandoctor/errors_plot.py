"""Mistakes a user can make with a picture: `nandoctor plot`."""

from nandoctor.errors import UserError


def unknown_picture(what: str, known: str) -> UserError:
    return UserError(
        title="NO SUCH PICTURE",
        happened=f"I cannot draw {what!r}.",
        why=f"I can draw: {known}.",
        try_this="nandoctor plot grad-norm",
    )


def unknown_picture_format(path: str, ending: str) -> UserError:
    return UserError(
        title="UNKNOWN PICTURE FORMAT",
        happened=f"{path} ends in {ending!r}." if ending else f"{path} has no ending.",
        why="The ending chooses the format, and I write .png, .svg and .pdf.",
        try_this="nandoctor plot loss -o loss.png",
    )


def nothing_to_draw(what: str, path: str, missing: str) -> UserError:
    return UserError(
        title="NOTHING TO DRAW",
        happened=f"I cannot draw {what} from {path}. {missing}",
        why="A picture is made of what was recorded; `nandoctor show` lists what a trace holds.",
        try_this=f"nandoctor show {path}",
    )


def picture_not_written(path: str, reason: str) -> UserError:
    return UserError(
        title="CANNOT WRITE THE PICTURE",
        happened=f"I cannot write {path}: {reason}.",
        why="The folder must exist and be yours to write in.",
        try_this="nandoctor plot loss -o /a/folder/of/yours/loss.png",
    )


def not_my_picture(path: str) -> UserError:
    return UserError(
        title="WILL NOT OVERWRITE",
        happened=f"{path} exists and is not a picture of mine.",
        why="I replace my own earlier pictures and nothing else.",
        try_this="nandoctor plot loss -o another-name.png",
    )


# --- nandoctor diagnose, explain -----------------------------------------------------------------------------
