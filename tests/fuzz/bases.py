"""The sound files that are mutated: traces, a spool, pairs of traces, and a log of each kind."""

from pathlib import Path

from tests.builders import Run, run

SAMPLES = Path(__file__).parent.parent.parent / "sample_logs"
TRACES = ("unsafe-op.parquet", "exploding-gradients.parquet", "fp16-overflow.parquet", "bad-input-data.parquet")
LOGS = (
    "text-sick.log", "tqdm-sick.log", "lightning-sick.log", "trainer-sick.log", "metrics-sick.csv",
    "training_history-sick.csv", "trainer_state-sick.json", "chinese-sick.log", "events-sick.tfevents",
)  # fmt: skip
SPOOL = "left.parquet.spool"
TWIN, OTHER = "twin.parquet", "other.parquet"  # two recordings of one command


def training(**header: object) -> Run:
    """A run with a row of nearly every kind, and a note of nearly every kind."""
    made = run(
        loss="2.3 2.1 1.9 2.5 4 inf nan nan", lr=0.1, gradient_norm="1 1 1 4 40 1e30 nan nan", clip=1.0,
        activations={"blocks.0.fc": "1 1 1 2 9 90 inf nan", "blocks.1.fc": 1, "head": "1 1 1 1 1 1 inf nan"},
        output_gradients={"blocks.0.fc": "1 1 1 1 1 1e20 nan nan"},
        gradients={"blocks.0.fc.weight": "1 1 1 1 1 1e20 nan nan"},
        weights={"blocks.0.fc.weight": "1 1 1 1 1 2 nan nan"}, updates={"blocks.0.fc.weight": 0.01}, batch=1.0,
        loss_scale=1024.0, epoch_length=4, exit_code=1,
    )  # fmt: skip
    made.notes[0].update(header)
    made.note("model", name="net", kind="Net", tree=[["", "Net", True], ["blocks.0.fc", "Linear", True]],
              parameters=[["blocks.0.fc.weight", [32, 10], "float32", True]])  # fmt: skip
    made.note("autocast", step=0, enabled=True, dtype="float16")
    made.note("graph", step=0, nodes={"AddmmBackward0": 2, "LogBackward0": 1})
    made.note("line", file="train.py", line=12, text="loss = torch.log(p).mean()")
    operand = {"role": "input", "dtype": "float32", "shape": [32, 10], "low": 0.0, "high": 1.0}
    operand |= {"zeros": 3, "nan": 0, "inf": 0}
    made.note("incident", alarm="loss", step=5, batch=5, micro=0, epoch=1, phase="forward", layer="head",
              module="Linear", op="log", kind="inf", mode="train", operands=[operand],
              place={"file": "train.py", "line": 12, "text": "loss = torch.log(p).mean()"})  # fmt: skip
    made.note("exception", type="RuntimeError", message="loss is nan", frames=[["train.py", 12, "main", "raise"]],
              last=["RuntimeError: loss is nan"], step=8, batch=8)  # fmt: skip
    made.note("probe_failed", probe="forward", step=3, error="RuntimeError: no")
    made.note("unseen", step=0, text="a compiled region")
    return made


def make(folder: Path) -> None:
    """Every base in a folder, under its own name."""
    for name in (*TRACES, *LOGS):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    training(session="left").spool(folder / SPOOL.removesuffix(".spool"))
    training(session="a", started=1.7e9).file(folder / TWIN)
    training(session="b", started=1.8e9, pid=77).file(folder / OTHER)
