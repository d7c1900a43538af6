"""Each kind of cure as a change of lines; what it cannot change, it says."""

from dataclasses import replace

import pytest

from nandoctor.evidence import Accumulation
from nandoctor.patching.edits import EDITS
from nandoctor.patching.source import Source, read_script
from tests.causes.patients import HEALTHY

LOOP = """import torch
LR = 0.5
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=LR, eps=0.0)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update(4.0)
"""
PLAIN = """model = Net()
optimizer = torch.optim.SGD(model.parameters(), 0.5)
for x, y in batches:
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
"""


def changed(text, kind, e=HEALTHY, **wanted):
    source = Source("train.py", text)
    done = EDITS[kind](source, e, {"kind": kind, **wanted})
    after = "\n".join(source.changed())
    compile(after, "train.py", "exec")
    before = text.splitlines()
    return done, [line.strip() for line in after.splitlines() if line not in before]


@pytest.mark.parametrize("text, kind, wanted, lines", [
    (LOOP, "lr", {"factor": 0.1}, ["LR = 0.05"]),
    (PLAIN, "lr", {"factor": 0.01}, ["optimizer = torch.optim.SGD(model.parameters(), 0.005)"]),
    (LOOP, "optimizer", {"arguments": {"eps": 1e-8}},
     ["optimizer = torch.optim.Adam(model.parameters(), lr=LR, eps=1e-08)"]),
    (PLAIN, "optimizer", {"arguments": {"momentum": 0.9}},
     ["optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)"]),
    (LOOP, "clip", {"max_norm": 1.0}, ["torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"]),
    (LOOP, "unscale", {}, ["scaler.unscale_(optimizer)"]),
    (LOOP, "drop-last", {},
     ["loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, drop_last=True)"]),
    (LOOP, "nan-to-num", {},
     ["loss = criterion(model(torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)), y)"]),
    (LOOP, "float32", {}, ['with torch.autocast("cpu", dtype=torch.bfloat16):']),
    (LOOP, "scaler-defaults", {}, ['scaler = torch.amp.GradScaler("cpu")', "scaler.update()"]),
    (PLAIN, "divide", {"by": 4.0}, ["(loss / 4).backward()"]),
    (PLAIN, "zero-grad-moved", {}, ["pass"]),
    (PLAIN, "loss-cap", {}, ["if not torch.isfinite(loss) or loss > 1e6:", "continue"]),
])  # fmt: skip
def test_a_cure_changes_these_lines(text, kind, wanted, lines):
    done, found = changed(text, kind, **wanted)
    assert done and found == lines


def test_a_clip_is_put_before_the_step_where_there_is_none():
    _, found = changed(PLAIN, "clip", max_norm=2.0)
    assert found == [
        "torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group['params']], max_norm=2.0)"
    ]


@pytest.mark.parametrize("line, op, new", [
    ("    y = torch.log(x)", "log", "y = torch.log(x.clamp_min(1e-8))"),
    ("    y = (a - b).sqrt()", "sqrt", "y = ((a - b).clamp_min(1e-12)).sqrt()"),
    ("    y = a / b", "div", "y = a / b.clamp_min(1e-8)"),
    ("    y = x ** 0.5", "pow", "y = x.clamp_min(1e-12) ** 0.5"),
])  # fmt: skip
def test_an_operation_is_kept_inside_its_domain(line, op, new):
    done, found = changed(f"def f(a, b, x):\n{line}\n", "operation", op=op, file="train.py", line=2)
    assert done and found == [new]


def test_a_masked_row_is_opened_before_its_softmax():
    done, found = changed("y = torch.softmax(s, dim=-1)\n", "mask", file="train.py", line=1)
    assert done
    assert found == ["y = torch.softmax(s.masked_fill(torch.isneginf(s).all(-1, keepdim=True), 0.0), dim=-1)"]


def test_several_backward_calls_for_a_step_are_left_to_the_person():
    several = Accumulation(1, 4.0, None, 1.0, 9, False, 0.0)
    assert changed(PLAIN, "zero-grad", replace(HEALTHY, accumulation=several)) == (False, [])


def test_only_python_files_below_the_folder_are_read(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.py").write_text("x = 1\n")
    (tmp_path / "inside" / "train.py").write_text("x = 1\n")
    (tmp_path / "inside" / "secrets.txt").write_text("x = 1\n")
    folder = tmp_path / "inside"
    assert read_script(folder, "train.py") is not None
    assert read_script(folder, "../outside.py") is None
    assert read_script(folder, str(tmp_path / "outside.py")) is None
    assert read_script(folder, "secrets.txt") is None
    assert read_script(folder, "missing.py") is None
