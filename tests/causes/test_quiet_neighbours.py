"""Silent failures and their healthy neighbours: schedules, several trainings, sums of terms, curricula, zeros."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import nandoctor
from nandoctor.evidence import phases
from nandoctor.trace.open import open_trace


def mlp(given=6, width=32, out=1):
    return nn.Sequential(nn.Linear(given, width), nn.Tanh(), nn.Linear(width, out))


def numbers(rows=32):
    x = torch.randn(rows, 6)
    return x, x[:, :1] + x[:, 1:2] * x[:, 2:3]


def train(net, steps, lr=1e-2, loss_of=functional.mse_loss, batches=numbers, schedule=None, optimizer=torch.optim.Adam):
    optimizer = optimizer(net.parameters(), lr=lr)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) if schedule else None
    for _ in range(steps):
        x, y = batches()
        optimizer.zero_grad()
        loss_of(net(x), y).backward()
        optimizer.step()
        if rates is not None:
            rates.step()


def diagnosed(folder, program):
    torch.manual_seed(1)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        program()
    return nandoctor.diagnose(recording.path)


def test_a_schedule_that_ends_after_ten_of_two_hundred_steps_is_a_plateau(tmp_path):
    found = diagnosed(tmp_path, lambda: train(mlp(), 200, 3e-3, schedule=lambda s: max(0.0, 1 - s / 10)))
    assert found.verdict == "loss-plateau"
    assert found.evidence.trained.spent > 0.9


def test_a_schedule_that_ends_with_the_run_is_healthy(tmp_path):
    found = diagnosed(tmp_path, lambda: train(mlp(), 200, schedule=lambda s: max(0.0, 1 - s / 200)))
    assert found.healthy


def test_a_warm_up_that_never_ends_is_a_learning_rate_that_is_too_high(tmp_path):
    found = diagnosed(tmp_path, lambda: train(mlp(), 200, 5e-3, schedule=lambda s: s + 1.0))
    assert found.verdict == "lr-too-high"


def students(lr):
    def program():
        teacher, student = mlp(), mlp()
        train(teacher, 80)
        train(student, 200, lr, batches=lambda: ((x := torch.randn(32, 6)), teacher(x).detach()))

    return program


def test_a_student_that_stands_still_after_its_teacher_has_learned_is_a_plateau(tmp_path):
    found = diagnosed(tmp_path, students(1e-7))
    assert found.verdict == "loss-plateau"
    assert "began at step 80" in found.findings[0].summary


def test_a_student_that_learns_is_healthy(tmp_path):
    assert diagnosed(tmp_path, students(1e-2)).healthy


def test_one_model_under_two_optimizers_is_one_training(tmp_path):
    net = mlp()
    found = diagnosed(tmp_path, lambda: (train(net, 150), train(net, 100, 1e-5)))
    assert found.healthy
    assert phases.last(open_trace(tmp_path / "run.parquet")) is None


def test_a_sum_of_terms_that_rises_while_one_of_them_is_learned_is_healthy(tmp_path):
    def program():
        code, net = nn.Embedding(16, 4), nn.ModuleDict({"in": mlp(6, 32, 4), "out": mlp(4, 32, 6)})
        nn.init.uniform_(code.weight, -0.1, 0.1)
        optimizer = torch.optim.Adam([*code.parameters(), *net.parameters()], lr=3e-3)
        mix = torch.randn(3, 6)
        for _ in range(260):
            x = torch.randn(64, 3) @ mix
            z = net["in"](x)
            q = code(torch.cdist(z, code.weight).argmin(1))
            loss = functional.mse_loss(net["out"](z + (q - z).detach()), x)
            loss = loss + functional.mse_loss(q, z.detach()) + 0.25 * functional.mse_loss(z, q.detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    found = diagnosed(tmp_path, program)
    assert found.healthy
    assert found.evidence.best_term < 0.7


def test_more_classes_step_by_step_are_a_curriculum_and_no_swing(tmp_path):
    centres = torch.randn(10, 6) * 2

    def batches(state={"step": 0}):  # noqa: B006
        state["step"] += 1
        y = torch.randint(0, min(10, 2 + state["step"] // 12), (40,))
        return centres[y] + torch.randn(40, 6), y

    found = diagnosed(tmp_path, lambda: train(mlp(out=10), 200, loss_of=functional.cross_entropy, batches=batches))
    assert found.healthy
    assert found.evidence.widens


def collected(divide):
    def program():
        net = mlp()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for at in range(600):
            x, y = numbers()
            there = torch.rand(32, 1) < 0.8
            loss = ((net(x) - y) ** 2 * there).sum() / there.sum()
            (loss / 8 if divide else loss).backward()
            if at % 8 == 7:
                optimizer.step()
                optimizer.zero_grad()

    return program


def test_a_mean_over_what_is_there_does_not_divide_what_is_collected(tmp_path):
    found = diagnosed(tmp_path, collected(divide=False))
    assert found.verdict == "gradient-accumulation-bug"


def test_divided_by_the_number_of_batches_it_is_healthy(tmp_path):
    assert diagnosed(tmp_path, collected(divide=True)).healthy


def test_places_that_a_sorting_gives_are_no_classes(tmp_path):
    def ranked(out, y):
        order = torch.argsort(y.squeeze(1), descending=True)
        score = out[order].squeeze(1)
        return (torch.logcumsumexp(score, 0) - score).mean()

    found = diagnosed(tmp_path, lambda: train(mlp(), 120, loss_of=ranked))
    assert found.evidence.loss.expected_from is None or not found.evidence.loss.expected_from.startswith("ln")


def zeroed(net):
    for parameter in net.parameters():
        nn.init.zeros_(parameter) if parameter.dim() == 2 else nn.init.uniform_(parameter)
    return net


def test_a_net_of_zeros_that_its_biases_wake_late_is_a_bad_initialization(tmp_path):
    found = diagnosed(tmp_path, lambda: train(zeroed(mlp()), 120, 3e-3))
    assert found.verdict == "bad-initialization"


def test_a_last_layer_of_zeros_is_sound(tmp_path):
    net = mlp()
    nn.init.zeros_(net[2].weight)
    assert diagnosed(tmp_path, lambda: train(net, 150)).healthy


class ByEnergy(nn.Module):
    """Divides pictures by their size, in half precision or not."""

    def __init__(self, wide):
        super().__init__()
        self.wide, self.one, self.two = wide, nn.Linear(6, 32), nn.Linear(32, 4)

    def forward(self, x):
        energy = (x.float() if self.wide else x).pow(2).sum(1, keepdim=True)
        x = 4 * x / energy.sqrt().to(x.dtype)
        return self.two(torch.relu(self.one(x)))


def pictures(wide):
    def batch():
        x = torch.randn(32, 6)
        y = x.argmax(1).clamp(max=3)
        return (1000 * x).half(), y

    def loss_of(out, y):
        return functional.cross_entropy(out.float(), y)

    net = ByEnergy(wide).half()
    return lambda: train(net, 200, 0.1, loss_of, batch, optimizer=torch.optim.SGD)


def test_squares_beyond_half_that_turn_the_data_into_zeros_are_an_overflow(tmp_path):
    assert diagnosed(tmp_path, pictures(wide=False)).verdict == "fp16-overflow"


def test_loud_data_that_the_model_divides_in_float32_are_healthy(tmp_path):
    assert diagnosed(tmp_path, pictures(wide=True)).healthy


def test_a_target_that_was_made_of_a_bad_input_is_not_the_first(tmp_path):
    def program():
        net = mlp()
        optimizer = torch.optim.Adam(net.parameters())

        class Graph(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, batch):
                return self.net(batch["charge"])

        model = Graph()
        for step in range(12):
            x, y = numbers()
            if step == 6:
                x[3] = float("nan")
            batch = {"charge": x, "target": y * float("nan")}  # scaled with a mean over all, of which one is NaN
            optimizer.zero_grad()
            functional.mse_loss(model(batch), batch["target"]).backward()
            optimizer.step()

    assert diagnosed(tmp_path, program).verdict == "bad-input-data"


def normalised(std):
    """Three hidden layers behind normalisations, drawn with `std`; the head as torch draws it."""
    hidden = [nn.Linear(6, 48), nn.Linear(48, 48), nn.Linear(48, 48)]
    for layer in hidden:
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    parts = [part for layer in hidden for part in (layer, nn.LayerNorm(48), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(48, 1))


def test_all_hidden_layers_next_to_nothing_are_a_bad_initialization_whatever_the_head_is(tmp_path):
    found = diagnosed(tmp_path, lambda: train(normalised(1e-12), 150, 0.02, optimizer=torch.optim.SGD))
    assert found.verdict == "bad-initialization"


def test_hidden_layers_that_a_normalisation_lifts_are_healthy(tmp_path):
    found = diagnosed(tmp_path, lambda: train(normalised(1e-2), 150, 0.02, optimizer=torch.optim.SGD))
    assert found.verdict == "healthy"


def columns(rows=32):
    """Targets of shape [rows]; the model answers [rows, 1]."""
    x = torch.randn(rows, 6)
    return x, x[:, 0] + 0.5 * x[:, 1] * x[:, 2]


def by_hand(answers, targets):
    return (answers - targets).abs().mean()


@pytest.mark.parametrize("loss_of", [functional.mse_loss, functional.smooth_l1_loss, by_hand])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_answers_that_are_compared_with_every_target_are_a_plateau(tmp_path, loss_of):
    found = diagnosed(tmp_path, lambda: train(mlp(), 150, loss_of=loss_of, batches=columns))
    assert found.verdict == "loss-plateau" and "[32, 32]" in found.findings[0].summary


@pytest.mark.parametrize("loss_of", [functional.mse_loss, by_hand])
def test_answers_of_the_targets_own_shape_are_healthy(tmp_path, loss_of):
    def right(answers, targets):
        return loss_of(answers.squeeze(1), targets)

    assert diagnosed(tmp_path, lambda: train(mlp(), 150, loss_of=right, batches=columns)).verdict == "healthy"


def test_several_answers_for_one_target_are_healthy(tmp_path):
    """Quantiles: the targets alone are expanded."""
    def pinball(answers, targets):
        error = targets[:, None] - answers
        shares = torch.tensor([0.1, 0.5, 0.9])
        return torch.maximum(shares * error, (shares - 1) * error).mean()

    net = mlp(out=3)
    assert diagnosed(tmp_path, lambda: train(net, 150, loss_of=pinball, batches=columns)).verdict == "healthy"


class Priced(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.body, self.head = mlp(out=8), nn.Linear(8, 1)
        nn.init.constant_(self.head.bias, bias)

    def forward(self, x):
        return functional.relu(self.head(self.body(x)))


def prices(rows=32):
    x, y = columns(rows)
    return x, (y + 4.0)[:, None]


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_relu_behind_the_last_layer_that_never_lets_through_is_dead(tmp_path, half):
    def program():
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            train(Priced(-6.0), 120, loss_of=lambda a, b: functional.mse_loss(a.float(), b), batches=prices)

    assert diagnosed(tmp_path, program).verdict == "dead-relu"


def test_a_relu_behind_the_last_layer_that_lets_through_is_healthy(tmp_path):
    assert diagnosed(tmp_path, lambda: train(Priced(4.0), 120, batches=prices)).verdict == "healthy"
