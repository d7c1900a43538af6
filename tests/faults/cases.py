"""What can happen to a recording, one function each: at a moment drawn by chance; it asserts what is left."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.programs import CLOCK, LOADER, MANY_MODULES, STEPS_ALONE, training
from tests.faults.trial import HOUSE, NotHere, Trial, command, read_only, small_disk

KILLED = 128 + signal.SIGKILL
SOON = 120  # steps: a run that ends by itself is to be short


# --- killed ----------------------------------------------------------------------------------------------------
def sigkill_of_the_training(trial: Trial) -> None:
    trial.start(training())
    trial.some_step()
    os.kill(trial.training(), signal.SIGKILL)
    assert trial.end() == KILLED
    assert trial.survives().end["exit_code"] == -signal.SIGKILL


def sigkill_of_the_parent(trial: Trial) -> None:
    trial.start(training())
    trial.some_step(150)
    child = trial.training()
    os.kill(trial.process.pid, signal.SIGKILL)
    trial.end()
    trial.process = None
    trial.some_step(300)  # the training goes on, recorded
    os.kill(child, signal.SIGKILL)
    trial.wait_until(lambda: not alive(child))
    trial.survives(recorder_gone=True)


def sigkill_of_both(trial: Trial) -> None:
    trial.start(training())
    trial.some_step()
    child = trial.training()
    os.killpg(trial.process.pid, signal.SIGKILL)
    trial.end()
    trial.process = None
    trial.wait_until(lambda: not alive(child))
    trial.survives(recorder_gone=True)


def sigkill_while_the_trace_is_written(trial: Trial) -> None:
    steps = trial.chance.randrange(50, 400)
    trial.start(training(steps))
    child = until_child(trial)
    trial.wait_until(lambda: not alive(child))
    time.sleep(trial.chance.random() * 0.15)
    os.kill(trial.process.pid, signal.SIGKILL)
    trial.end()
    trial.survives(done=steps, recorder_gone=True)


def sigterm(trial: Trial) -> None:
    trial.start(training())
    trial.some_step()
    os.kill(trial.chance.choice([trial.process.pid, trial.training()]), signal.SIGTERM)
    assert trial.end() == 128 + signal.SIGTERM
    trial.survives()


def sigint_twice(trial: Trial) -> None:
    trial.start(training())
    trial.some_step()
    os.killpg(trial.process.pid, signal.SIGINT)  # as Ctrl-C does: to the whole group
    time.sleep(trial.chance.random() * 0.2)
    os.killpg(trial.process.pid, signal.SIGINT)
    assert trial.end() == 128 + signal.SIGINT
    trial.survives()


def sigsegv_in_the_training(trial: Trial) -> None:
    at = f"if step == {trial.chance.randrange(SOON)}: import ctypes; ctypes.string_at(0)"
    trial.start(training(at=at))
    assert trial.end() == 128 + signal.SIGSEGV
    trial.survives()


# --- the training ends otherwise -------------------------------------------------------------------------------
def os_exit(trial: Trial) -> None:
    trial.start(training(at=f"if step == {trial.chance.randrange(SOON)}: os._exit(7)"))
    assert trial.end() == 7
    trial.survives(lost=0)


def an_exception_in_main(trial: Trial) -> None:
    trial.start(training(at=f"if step == {trial.chance.randrange(SOON)}: raise ValueError('mine')"))
    assert trial.end() == 1
    trace = trial.survives(lost=0)
    assert trace.notes_of("exception")[0]["message"] == "mine"
    assert "_nandoctor" not in trial.said() and "nandoctor/recording" not in trial.said()


def an_exception_in_a_thread(trial: Trial) -> None:
    at = f"if step == {trial.chance.randrange(SOON)}: threading.Thread(target=lambda: 1 / 0).start()"
    trial.start(training(SOON, at))
    assert trial.end() == 0 and "ZeroDivisionError" in trial.said()
    trial.survives(lost=0)


def an_exception_in_a_loader_worker(trial: Trial) -> None:
    trial.start(loader(trial, "raise ValueError('mine')"))
    assert trial.end() == 1 and "Caught ValueError" in trial.said()
    survives_its_worker(trial)


def a_loader_worker_killed(trial: Trial) -> None:
    trial.start(loader(trial, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert trial.end() == 1  # in torch's words, or those of the connection that broke
    survives_its_worker(trial)


def survives_its_worker(trial: Trial) -> None:
    """One that was lost with the first batches leaves no step, and words instead of a diagnosis."""
    if trial.done():
        trial.survives(lost=0)
        return
    assert not list(trial.folder.glob("*.spool")), "a spool is left"
    traces = list(trial.folder.glob("*.parquet"))
    assert traces == [trial.folder / "run.parquet"] or (not traces and "nothing was recorded" in trial.said()), traces
    if traces:
        code, words = command("diagnose", str(traces[0]))
        assert code in (0, 1) or "NO TRAINING IN IT" in words, words


def a_memory_error(trial: Trial) -> None:
    trial.start(training(at=f"if step == {trial.chance.randrange(SOON)}: [0] * 10**15"))
    assert trial.end() == 1
    assert trial.survives(lost=0).notes_of("exception")[0]["type"] == "MemoryError"


def out_of_memory_in_a_probe(trial: Trial) -> None:
    left = trial.chance.randrange(2 * SOON)
    before = "\n".join([
        "probe = sys.modules['_nandoctor.recording.probes.forward']",
        f"reading, left = probe.measure, [{left}]",
        "def measure(tensor):",
        "    left[0] -= 1",
        "    if left[0] < 0: raise MemoryError('no room')",
        "    return reading(tensor)",
        "probe.measure = measure",
    ])  # fmt: skip
    trial.start(training(SOON, before=before))
    assert trial.end() == 0
    assert trial.said().count("probe failed") >= 1
    trace = trial.survives(lost=0)
    assert "no room" in trace.notes_of("probe_failed")[0]["error"]
    assert "no room" in command("diagnose", "--full", trace.path)[1]


# --- the disk --------------------------------------------------------------------------------------------------
def disk_full_while_spooling(trial: Trial) -> None:
    size = trial.chance.randrange(120, 400)
    with small_disk(trial.folder / "disk", f"{size}k") as disk:
        if disk is None:
            raise NotHere("no tmpfs may be mounted here")
        before = f"progress_folder = os.chdir({str(trial.folder)!r})"
        trial.start(training(600, before=before), folder=disk)
        assert trial.end() == 0, trial.said()
        said = trial.said()
        spool = disk / "run.parquet.spool"
        if not spool.exists():  # the disk was full before anything was claimed, or large enough
            assert (disk / "run.parquet").exists() or "No space left" in said, said
            return
        assert "No space left" in said and said.count("the recording ends") <= 1, said
        if "the recording ends" in said:
            at = int(said.split("the recording ends at step ")[1].split(",")[0])
            shutil.copytree(spool, trial.folder / "run.parquet.spool", ignore=shutil.ignore_patterns("reserve"))
            trace = trial.survives(done=at, lost=1)
            code, words = command("diagnose", trace.path)
            assert "No space left" in words, words
        else:
            shutil.copytree(spool, trial.folder / "run.parquet.spool")
            trial.survives(lost=0)


def file_size_limit_while_spooling(trial: Trial) -> None:
    limit = trial.chance.randrange(30_000, 300_000)
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    trial.start(training(600, before=before))
    assert trial.end() == 0, trial.said()
    assert trial.said().count("the recording ends at step") == 1, trial.said()
    at = int(trial.said().split("the recording ends at step ")[1].split(",")[0])
    trace = trial.survives(done=at)
    assert trace.notes_of("probe_failed")[0]["probe"] == "spool"
    assert "could not be written from step" in command("diagnose", trace.path)[1].replace("\n    ", " ")


def disk_full_while_the_trace_is_written(trial: Trial) -> None:
    steps = trial.chance.randrange(50, 200)
    trial.start(training(steps))
    trial.some_step(steps // 2)
    limit = trial.chance.randrange(0, 10_000)
    resource.prlimit(trial.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    assert trial.end() == 0
    if not (trial.folder / "run.parquet").exists():
        assert "--recover" in trial.said(), trial.said()
        assert sorted(path.name for path in trial.folder.glob("run.parquet.spool/*.parquet")) == []
    trial.survives(lost=0, recorder_gone=True)


def the_spool_is_removed(trial: Trial) -> None:
    trial.start(training(400))
    trial.some_step(300)
    shutil.rmtree(trial.folder / "run.parquet.spool", ignore_errors=True)
    assert trial.end() == 0 and trial.done() == 400
    assert "Traceback" not in trial.said()
    trial.no_half_file()


def a_read_only_folder(trial: Trial) -> None:
    """Read-only before, and refused before anything is started; or made so in the middle, and finished later."""
    if trial.chance.random() < 0.4:
        with read_only(trial.folder):
            code, words = command("record", "-o", str(trial.folder / "run.parquet"), "--", "true")
        assert code == 2 and "CANNOT WRITE THERE" in words and "Nothing has been started" in words, words
        return
    steps = trial.chance.randrange(150, 400)
    trial.start(training(steps))
    trial.some_step(100)
    with read_only(trial.folder), read_only(trial.folder / "run.parquet.spool"):
        assert trial.end() == 0, trial.said()
        assert "--recover" in trial.said(), trial.said()
        code, words = command("diagnose", str(trial.folder / "run.parquet"))
        assert code == 0, words
    assert trial.survives(lost=0).steps == steps


# --- surroundings ----------------------------------------------------------------------------------------------
def a_clock_that_jumps(trial: Trial) -> None:
    library = HOUSE / ".cache" / "clock.so"
    if not library.exists() and shutil.which("cc"):
        library.parent.mkdir(exist_ok=True)
        build = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(build, input=CLOCK.encode(), check=True)
    if not library.exists():
        raise NotHere("no C compiler here")
    before = "import random\nreal = time.time\ntime.time = lambda: real() + random.uniform(-3e7, 3e7)"
    trial.start(training(SOON, before=before), env={"LD_PRELOAD": str(library)})
    if trial.chance.random() < 0.5:
        trial.some_step(100)
        os.kill(trial.training(), signal.SIGKILL)
        trial.end()
        trial.survives()
        return
    assert trial.end() == 0, trial.said()
    elapsed = trial.survives(lost=0).rows("elapsed")["value"]
    assert (elapsed >= 0).all() and (elapsed[1:] >= elapsed[:-1]).all()


def two_recordings_in_one_folder(trial: Trial) -> None:
    steps = [trial.chance.randrange(20, SOON) for _ in range(2)]
    first = trial.start(training(steps[0]), "a.py")
    time.sleep(trial.chance.random() * 0.3)
    second = trial.start(training(steps[1]), "b.py")
    assert first.wait(200) == second.wait(200) == 0
    from nandoctor.trace.open import open_trace

    found = {}
    for path in trial.folder.glob("*.parquet"):
        trace = open_trace(path)
        found[trace.header["command"][-1]] = trace.steps
    assert found == {"a.py": steps[0], "b.py": steps[1]}, found
    assert not list(trial.folder.glob("*.spool"))


def a_fork_in_the_middle(trial: Trial) -> None:
    leave = trial.chance.choice(["os._exit(0)", "sys.exit(0)"])
    at = f"if step == {trial.chance.randrange(SOON - 1)} and os.fork() == 0: optimizer.step(); {leave}"
    trial.start(training(SOON, at))
    assert trial.end() == 0
    trace = trial.survives(lost=0, processes=2)  # the copy has trained one step
    assert trace.steps == SOON and len(trace.notes_of("header")) == 1
    from nandoctor.trace.open import open_trace

    assert open_trace(trial.folder / "run.2.parquet").steps == 1


def descriptors_closed_by_the_program(trial: Trial) -> None:
    at = f"if step == {trial.chance.randrange(SOON)}: mine = closes()"
    before = "\n".join([
        "def closes():",
        "    os.closerange(3, 4096)",
        "    global progress",
        "    files = [os.open(f'mine{n}', os.O_RDWR | os.O_CREAT | os.O_APPEND) for n in range(1000)]",
        "    progress = os.open('progress', os.O_WRONLY | os.O_APPEND)",
        "    return files",
    ])  # fmt: skip
    trial.start(training(SOON, at, before))
    assert trial.end() == 0, trial.said()
    written = [path.name for path in trial.folder.glob("mine*") if path.stat().st_size]
    assert not written, f"the recording wrote into the program's own files: {written}"
    assert "the program has closed" in trial.said()
    trial.survives(lost=SOON)


def ten_thousand_modules(trial: Trial) -> None:
    trial.start(MANY_MODULES.replace("COUNT", "10_000").replace("STEPS", "100"))
    trial.some_step(4)
    os.kill(trial.training(), signal.SIGKILL)
    trial.end()
    trial.survives()


def a_million_steps(trial: Trial) -> None:
    trial.start(STEPS_ALONE.replace("STEPS", "1_000_000"))
    assert trial.process.wait(4 * 3600) == 0
    trial.survives(lost=0)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_child(trial: Trial) -> int:
    trial.wait_until(lambda: trial.done() >= 1)
    return trial.training()


def loader(trial: Trial, happens: str) -> str:
    at = trial.chance.randrange(SOON)
    return LOADER.replace("STEPS", str(SOON)).replace("MOMENT", str(at)).replace("HAPPENS", happens)


Case = Callable[[Trial], None]
CASES: dict[str, tuple[Case, float]] = {  # name -> what is done, and how often beside the others
    case.__name__.replace("_", " "): (case, share)
    for case, share in (
        (sigkill_of_the_training, 2.0), (sigkill_of_the_parent, 1.0), (sigkill_of_both, 1.0),
        (sigkill_while_the_trace_is_written, 2.0), (sigterm, 1.0), (sigint_twice, 1.0), (sigsegv_in_the_training, 1.0),
        (os_exit, 0.5), (an_exception_in_main, 0.5), (an_exception_in_a_thread, 0.5),
        (an_exception_in_a_loader_worker, 0.5), (a_loader_worker_killed, 0.5), (a_memory_error, 0.5),
        (out_of_memory_in_a_probe, 0.5), (disk_full_while_spooling, 1.0), (file_size_limit_while_spooling, 1.0),
        (disk_full_while_the_trace_is_written, 1.0), (the_spool_is_removed, 0.5), (a_read_only_folder, 1.0),
        (a_clock_that_jumps, 0.5), (two_recordings_in_one_folder, 1.0), (a_fork_in_the_middle, 0.5),
        (descriptors_closed_by_the_program, 0.5), (ten_thousand_modules, 0.2), (a_million_steps, 0.0),
    )
}  # fmt: skip
