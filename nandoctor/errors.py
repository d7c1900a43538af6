"""Mistakes a user can make and repair. Everything else is a bug and keeps its traceback."""

from dataclasses import dataclass


@dataclass
class UserError(Exception):
    """Printed in one place (nandoctor/cli), with an exit code and without a traceback."""

    title: str  # 2 to 5 words
    happened: str  # what nandoctor saw, with the path or value
    why: str  # what that usually means
    try_this: str  # one command or one line to change
    exit_code: int = 2

    def __str__(self) -> str:
        title = printable(self.title).upper()
        rule = "-" * max(4, 72 - len(title))
        body = "\n\n".join(printable(part) for part in (self.happened, self.why) if part)
        return f"-- {title} {rule}\n\n{body}\n\n    {printable(self.try_this)}\n"


def printable(text: str) -> str:
    """Text for a terminal: what a path or a trace holds may not steer it (escape sequences become text)."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def no_trace(path: str) -> UserError:
    return UserError(
        title="NO TRACE THERE",
        happened=f"I looked for a trace at {path} and found no file.",
        why="A trace is written by `nandoctor record`; without -o it is named run.parquet.",
        try_this="nandoctor record -o run.parquet -- python train.py",
    )


def not_a_trace(path: str, reason: str) -> UserError:
    return UserError(
        title="NOT A TRACE",
        happened=f"I cannot read {path} as a trace: {reason}.",
        why="nandoctor reads what `nandoctor record` writes; `diagnose` also takes text logs, CSV and JSON histories.",
        try_this="nandoctor record -o run.parquet -- python train.py",
    )


def no_trace_here(folder: str) -> UserError:
    return UserError(
        title="NO TRACE HERE",
        happened=f"I looked for a trace in {folder} and found none: no .parquet of mine, no .parquet.spool.",
        why="Without the name of a trace I take the newest one of the current folder.",
        try_this="nandoctor record -o run.parquet -- python train.py",
    )


def trace_is_folder(path: str) -> UserError:
    return UserError(
        title="A FOLDER, NOT A TRACE",
        happened=f"{path} is a folder; a trace is a file, or a spool, whose name ends in .spool.",
        why="Inside a folder, a command without the name of a trace takes the newest one.",
        try_this=f"ls {path}",
    )


def trace_denied(path: str) -> UserError:
    return UserError(
        title="THE TRACE MAY NOT BE READ",
        happened=f"This account has no permission to read {path}.",
        why="It was recorded by another account, or its permissions were changed.",
        try_this=f"ls -l {path}",
    )


def bad_filter(option: str, reason: str) -> UserError:
    return UserError(
        title="CANNOT FILTER BY THIS",
        happened=f"I do not understand {option}.",
        why=f"{reason[:1].upper()}{reason[1:]}.",
        try_this="nandoctor show --step 30:40 --layer 'blocks.3.*' --kind activation",
    )


def newer_trace(path: str, writer: object) -> UserError:
    version = printable(writer)[:40] if isinstance(writer, str) and writer else ""
    wanted = f"nandoctor>={version}" if version else "nandoctor"
    return UserError(
        title="THE TRACE IS NEWER THAN I AM",
        happened=f"{path} was written by {f'nandoctor {version}' if version else 'a later nandoctor'}.",
        why="The format of a trace grows with nandoctor; an older one cannot read what it does not know.",
        try_this=f"pip install --upgrade '{wanted}'",
    )


def nothing_recorded(path: str) -> UserError:
    return UserError(
        title="NOTHING RECORDED",
        happened=f"Nothing trained in the run of {path}: no backward call and no optimizer step.",
        why="The script ended before its first training step, or the training ran in another process.",
        try_this="nandoctor record -- python train.py",
    )


# --- nandoctor record ---------------------------------------------------------------------------------------
RECORD = "nandoctor record -o run.parquet -- python train.py"


def no_command() -> UserError:
    return UserError(
        title="NO COMMAND",
        happened="I was asked to record, but not what.",
        why="The command that trains stands behind two dashes, as you would type it without nandoctor.",
        try_this=RECORD,
    )


def no_separator(word: str, rest: str) -> UserError:
    return UserError(
        title="NO -- BEFORE THE COMMAND",
        happened=f"I found {word!r} where I expected an option of mine or two dashes.",
        why="The dashes say where my options end and yours begin.",
        try_this=f"nandoctor record -- {rest}",
    )


def unknown_option(option: str) -> UserError:
    return UserError(
        title="UNKNOWN OPTION",
        happened=f"`nandoctor record` has no option {option}.",
        why="If it is an option of the training, it belongs behind the two dashes, after the command.",
        try_this="nandoctor record --help",
    )


def bad_value(option: str, happened: str) -> UserError:
    return UserError(
        title="CANNOT USE THIS OPTION",
        happened=f"{option}: {happened}.",
        why="Nothing has been started.",
        try_this="nandoctor record --help",
    )


def unknown_treatment(name: str, known: str) -> UserError:
    return UserError(
        title="UNKNOWN TREATMENT",
        happened=f"--treat names {printable(name)}, and there is no such treatment.",
        why=f"The treatments are: {known}.",
        try_this="nandoctor record --active --treat learning-rate,adaptive-clipping -- python train.py",
    )


def bad_pattern(pattern: str, reason: str) -> UserError:
    return UserError(
        title="NOT A PATTERN",
        happened=f"--layers {pattern!r} is not a regular expression: {reason}.",
        why="Layers are chosen by Python's regular expressions, searched in their dotted names.",
        try_this="nandoctor record --layers 'blocks[.]3' -- python train.py",
    )


def output_is_folder(path: str) -> UserError:
    return UserError(
        title="THE OUTPUT IS A FOLDER",
        happened=f"-o {path} names a folder; a trace is a file.",
        why="Nothing has been started.",
        try_this=f"nandoctor record -o {path.rstrip('/')}/run.parquet -- python train.py",
    )


def no_output_folder(folder: str, reason: str) -> UserError:
    return UserError(
        title="CANNOT WRITE THERE",
        happened=f"I cannot write a trace into {folder}: {reason}.",
        why="Nothing has been started: a training whose recording is lost would have to run again.",
        try_this="nandoctor record -o /a/folder/of/yours/run.parquet -- python train.py",
    )


def command_not_found(name: str) -> UserError:
    return UserError(
        title="COMMAND NOT FOUND",
        happened=f"There is no command {name!r} here.",
        why="It is looked up as a shell does: along PATH, or as a path where it contains a slash.",
        try_this="nandoctor record -- python3 train.py",
        exit_code=127,  # as a shell says it
    )


def cannot_execute(name: str, reason: str) -> UserError:
    return UserError(
        title="CANNOT RUN THE COMMAND",
        happened=f"{name!r} was found, but cannot be run: {reason}.",
        why="A Python file is run by Python, a shell script by its shell.",
        try_this=f"nandoctor record -- python {name}",
        exit_code=126,  # as a shell says it
    )


def no_spool(path: str) -> UserError:
    return UserError(
        title="NO SPOOL THERE",
        happened=f"I looked for a spool at {path} and found none.",
        why="While a training runs, its recording lies beside the output in a folder that ends in .spool.",
        try_this="nandoctor record --recover run.parquet.spool",
    )


def spool_lives(path: str, pid: object) -> UserError:
    return UserError(
        title="STILL RECORDING",
        happened=f"Process {pid} still records into {path}.",
        why="It can be finished when that process has ended. `nandoctor diagnose` reads it meanwhile.",
        try_this=f"nandoctor diagnose {path}",
    )


def unreadable_spool(path: str) -> UserError:
    return UserError(
        title="THE SPOOL IS UNREADABLE",
        happened=f"{path} has no header: its notes.jsonl is missing, cut or damaged.",
        why="The recording was killed in the moment it began, or the folder is not a spool of nandoctor.",
        try_this="nandoctor record -- python train.py",
    )


# --- nandoctor plot ------------------------------------------------------------------------------------------
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
def nothing_to_diagnose(path: str, exception: str | None) -> UserError:
    ended = f" The run ended with {exception[:300]}" if exception else ""
    return UserError(
        title="NO TRAINING IN IT",
        happened=f"{path} is a trace, but it holds no training step.{ended}",
        why="The script ended before its first backward() and optimizer.step().",
        try_this=f"nandoctor show {path}",
    )


def unknown_cause(name: str, known: str) -> UserError:
    return UserError(
        title="NO SUCH CAUSE",
        happened=f"I know no cause named {name!r}.",
        why=f"I know: {known}.",
        try_this="nandoctor explain",
    )
