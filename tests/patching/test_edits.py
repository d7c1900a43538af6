"""Each kind of cure as a change of lines; what it cannot change, it says."""

from dataclasses import replace

import pytest

from nandoctor.evidence import Accumulation, Layout
from nandoctor.evidence.layout import First, Given
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
     ["x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)"]),
    (LOOP, "float32", {}, ['with torch.autocast("cpu", dtype=torch.bfloat16):']),
    (LOOP, "scaler-defaults", {}, ['scaler = torch.amp.GradScaler("cpu")', "scaler.update()"]),
    (PLAIN, "divide", {"by": 4.0}, ["(loss / 4).backward()"]),
    (PLAIN, "zero-grad-moved", {}, ["pass"]),
    (PLAIN, "loss-cap", {}, ["if not torch.isfinite(loss) or loss > 1e6:", "continue"]),
])  # fmt: skip
def test_a_cure_changes_these_lines(text, kind, wanted, lines):
    done, found = changed(text, kind, **wanted)
    assert done and found == lines


def made_of(modules, parameters, inputs=(), **first):
    shapes = {name: shape for name, (shape, *_) in parameters.items()}
    begun = {name: First(shape, std, low, high, False) for name, (shape, std, low, high) in parameters.items()}
    return replace(HEALTHY, layout=Layout(1, {"": "Net", **modules}, shapes, begun, tuple(inputs)), **first)


NET = made_of({"body": "Sequential", "body.0": "Linear", "head": "Linear"}, {
    "body.0.weight": ((32, 6), 0.2, -0.4, 0.4), "body.0.bias": ((32,), 9.0, -9.0, -9.0),
    "pos": ((4, 32), 300.0, -900.0, 900.0),
    "head.weight": ((3, 32), 90.0, -300.0, 300.0), "head.bias": ((3,), 0.1, -0.2, 0.2),
}, [Given("0", (64, 6), 3.0, True)])  # fmt: skip
TRAINER = """import torch
class Trainer:
    def __init__(self, net, lr=1e-6):
        self.net = net
        self.opt = torch.optim.Adam(self.net.parameters(), lr=lr)
    def fit(self, data):
        for x, y in data:
            loss = torch.nn.functional.mse_loss(self.net(x), y)
            loss.backward()
            self.opt.step()
"""
LIGHTNING = """import torch
import lightning as L
class Net(L.LightningModule):
    def training_step(self, batch, number):
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""
HELPER = """import torch
def make(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr)
def main():
    model = Net()
    algorithm = make(model.parameters(), 0.1)
"""


@pytest.mark.parametrize("text, root", [
    (TRAINER, "self.net"), (LIGHTNING, "self"), (HELPER, "model"), ("import torch\n" + PLAIN, "model"),
    ("import torch\n" + PLAIN.replace("model.parameters()", "model.head.parameters()"), "model"),
])  # fmt: skip
def test_layers_beyond_every_rule_are_drawn_again_where_the_model_is_complete(text, root):
    done, found = changed(text, "first-weights", NET)
    assert done and found == [
        f"{root}.body[0].reset_parameters()", f"{root}.head.reset_parameters()",
        f"torch.nn.init.normal_({root}.pos, std=0.02)",
    ]  # fmt: skip


def test_weights_that_came_from_a_checkpoint_are_not_drawn_again():
    loaded = replace(NET, weights=replace(HEALTHY.weights, checkpoint_loads=((0, "load_state_dict"),)))
    assert changed(HELPER, "first-weights", loaded) == (False, [])


def test_two_models_are_left_to_the_person():
    two = replace(NET, layout=replace(NET.layout, models=2))
    assert changed(HELPER, "first-weights", two) == (False, [])


@pytest.mark.parametrize("text, kind, wanted, lines", [
    (TRAINER, "lr", {"factor": 100.0}, ["def __init__(self, net, lr=0.0001):"]),
    (TRAINER, "nan-to-num", {},
     ["x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)"]),
    (TRAINER, "in-range", {"limit": 9.0}, ["x = x.clamp(-9, 9)"]),
    (TRAINER, "zero-grad", {}, ["self.opt.zero_grad()"]),
    ("import torch\n" + PLAIN.replace("model.parameters()", "model.head.parameters()"), "all-parameters", {},
     ["optimizer = torch.optim.SGD(model.parameters(), 0.5)"]),
    ("import torch\n" + PLAIN.replace("(x), y", "(x.flip(0)), y"), "aligned", {}, ["loss = criterion(model(x), y)"]),
    ("for p in net.parameters():\n    p.requires_grad = False\n", "thawed", {}, ["p.requires_grad = True"]),
    ("(-loss).backward()\n", "downhill", {}, ["(loss).backward()"]),
    ("s = torch.optim.lr_scheduler.StepLR(o, 1, 0.1)\n", "steady", {},
     ["s = torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1.0)"]),
    ("loader = DataLoader(data, 8, shuffle=False)\n", "shuffle", {}, ["loader = DataLoader(data, 8, shuffle=True)"]),
    ("rnn = nn.LSTM(8, 16, num_layers=9)\n", "shallower", {}, ["rnn = nn.LSTM(8, 16, num_layers=2)"]),
    ("model = Net().bfloat16()\nx = x.to(torch.bfloat16)\n", "full-weights", {},
     ["model = Net()", "x = x.to(torch.float32)"]),
    ("import torch\n" + PLAIN, "loss-scale", {},
     ['scaler = torch.amp.GradScaler("cpu")', "scaler.scale(loss).backward()", "scaler.step(optimizer)",
      "scaler.update()"]),
])  # fmt: skip
def test_the_edits_of_other_causes(text, kind, wanted, lines):
    done, found = changed(text, kind, NET, **wanted)
    assert done and found == lines


OUTPUT = """class Net(nn.Module):
    def forward(self, x):
        h = torch.sigmoid(self.fc1(x))
        gate = torch.sigmoid(self.fc2(h)) * h
        return torch.sigmoid(self.out(gate))
"""


def test_gates_and_outputs_stay_sigmoids():
    assert changed(OUTPUT, "unsaturated") == (True, ["h = torch.relu(self.fc1(x))"])
    assert changed("net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())\n", "unsaturated") == (False, [])


def test_a_permutation_of_both_sides_is_no_mistake():
    both = PLAIN.replace("(x), y", "(x[torch.randperm(8)]), y[torch.randperm(8)]")
    assert changed(both, "aligned", NET) == (False, [])


def test_an_edit_that_python_could_not_read_is_taken_back():
    source = Source("train.py", "x = 1\n")
    mark = source.mark()
    source.replaced[1] = "x = = 1"
    assert not source.sound()
    source.back(mark)
    assert source.sound() and source.changed() == ["x = 1"]


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
