"""What is read from which line: the formats that people have."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nandoctor.errors import UserError
from nandoctor.logs import alarms, sniff, text
from nandoctor.logs.columns import role_of
from nandoctor.logs.table import Log, Row

DOCUMENTS_LINES = [  # docs/sources.md, with numbers put in
    ("警告: Batch 3 学生模型输出包含 NaN/Inf，跳过", alarms.OUTPUT, True),
    ("警告: Batch 12 损失过大，跳过", alarms.LOSS_CAPPED, True),
    ("跳过: 包含 Inf 值", alarms.DATA_INF, False),
    ("警告: 数值范围很大，可能影响训练", alarms.DATA_RANGE, False),
    ("[警告] 梯度包含NaN/Inf，跳过batch 7", alarms.GRADIENT, True),
    ("[警告] 梯度范数过大 (16.62)，进行梯度裁剪并降低学习率", alarms.NORM_HIGH, False),
    ("[警告] 梯度范数较大 (7.31)，进行梯度裁剪", alarms.NORM_RAISED, False),
    ("[警告] 权重包含NaN/Inf，跳过batch 9", alarms.WEIGHT, True),
    ("[警告] 梯度包含NaN/Inf，进行梯度修复", alarms.GRADIENT, False),
    ("[警告] 权重包含NaN/Inf，进行权重修复", alarms.WEIGHT, False),
    ("⚠️  警告: 检测到 NaN/Inf 损失，跳过此批次", alarms.LOSS, True),
    ("⚠️  发现异常数据!", alarms.DATA_BAD, False),
]
LINES = [  # one line -> the row it becomes
    ("Epoch 1/50 | Train Loss: 0.4974 | Val Loss: 2.1927 | Val Acc: 0.0000",
     Row(epoch=1, train=0.4974, validation=2.1927)),
    ("epoch 3 loss: 0.5", Row(epoch=3, train=0.5)),
    ("step 12 | loss 1.2", Row(step=12, train=1.2)),
    ("step 250: train loss 2.5, val loss 2.6", Row(step=250, train=2.5, validation=2.6)),
    ("iter 100: loss 3.2, time 12.3ms, mfu 10%", Row(step=100, train=3.2)),
    ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300", Row(epoch=1, step=640, train=2.3)),
    ("Test set: Average loss: 0.0500, Accuracy: 9800/10000 (98%)", Row(validation=0.05)),
    ("Epoch: [0][  10/5005]\tTime  0.5 (1.2)\tLoss 7.0e+00 (7.1e+00)", Row(epoch=0, step=10, train=7.0)),
    ("Epoch(train)  [2][50/100]  lr: 1.0e-3  grad_norm: 12.3  loss: 0.5",
     Row(epoch=2, step=50, train=0.5, lr=1e-3, norm=12.3)),
    ("10/10 ━━━━━ 1s 3ms/step - loss: 0.51 - val_loss: 0.62", Row(train=0.51, validation=0.62)),
    (" iteration      10/  100 | learning rate: 1.5E-04 | lm loss: 9.8E+00 | loss scale: 1.0 | grad norm: 5.1 |",
     Row(step=10, train=9.8, lr=1.5e-4, norm=5.1)),
    ("| epoch 001:     10 / 100 loss=5.3, lr=0.001, gnorm=1.2", Row(epoch=1, train=5.3, lr=1e-3, norm=1.2)),
    ("2024-01-05 12:00:00,123 - INFO - Epoch 3 - training loss: 0.25", Row(epoch=3, train=0.25)),
    ("{'loss': 2.3, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.1}",
     Row(epoch=0.1, train=2.3, lr=5e-5, norm=1.2)),
    ("{'loss': '0', 'grad_norm': 'inf', 'learning_rate': '0.008', 'epoch': '1.25'}",
     Row(epoch=1.25, train=0.0, lr=0.008, norm=math.inf)),
    ("{'eval_loss': '1.5', 'eval_runtime': '0.01', 'epoch': '1'}", Row(epoch=1, validation=1.5)),
    ('{"epoch": 2, "train_loss": 0.4, "lr": 0.001}', Row(epoch=2, train=0.4, lr=1e-3)),
    ("Epoch 3:  45%|████▌     | 45/100 [00:12<00:15,  3.6it/s, loss=0.532, v_num=0]",
     Row(epoch=3, step=45, train=0.532)),
    ("Epoch 4: 100%|██████████| 15/15 [00:00<00:00, 353.81it/s, v_num=0, train_loss=0.920, val_loss=inf.0]",
     Row(epoch=4, step=15, train=0.92, validation=math.inf)),  # Lightning 2.6 does write inf.0
    ("Monitored metric val_loss = inf is not finite. Previous best value was 0.5.", Row(validation=math.inf)),
    ("[multi-scale] loss: 0.5", Row(train=0.5)),
    ("loss: tensor(0.75, grad_fn=<MseLossBackward0>)", Row(train=0.75)),
    ("第 3 轮 训练损失: 0.5 验证损失: 0.6 学习率: 1e-4", Row(epoch=3, train=0.5, validation=0.6, lr=1e-4)),
    ("Epoch 1 平均损失: 0.41 学习率: 4.14e-07", Row(epoch=1, train=0.41, lr=4.14e-7)),
    ("\x1b[32mepoch 3\x1b[0m loss: \x1b[1m0.5\x1b[0m", Row(epoch=3, train=0.5)),
]  # fmt: skip
SILENT = [
    "Total estimated model params size (MB): 0.019",
    "Epoch 0, global step 50: 'val_loss' reached 0.5 (best 0.5), saving model",
    "loss scale: 65536",
    "best loss so far 0.1",
    "using loss_weight=0.5",
    "a lossless codec of 12 kHz",
]


def rows(content: str) -> list[Row]:
    return [row for row in text.read(content, "x.log").rows if row.warned is None]


@pytest.mark.parametrize(("line", "row"), LINES, ids=[line[:40] for line, _ in LINES])
def test_a_line_becomes_its_row(line: str, row: Row):
    assert rows(line) == [row]


@pytest.mark.parametrize("word", ["nan", "NaN", "NAN", "inf", "-inf", "Infinity"])
def test_a_loss_that_is_not_finite_is_read(word: str):
    found = rows(f"epoch 3 loss: {word}")[0].train
    assert found is not None and not math.isfinite(found)


@pytest.mark.parametrize("line", SILENT)
def test_what_is_no_loss_is_not_taken_for_one(line: str):
    assert all(row.train is None and row.validation is None for row in rows(line))


@pytest.mark.parametrize(("line", "what", "skipped"), DOCUMENTS_LINES, ids=[line for line, _, _ in DOCUMENTS_LINES])
def test_the_documents_own_lines_are_known(line: str, what: str, skipped: bool):
    found = [warning for _, warning in text.read(line, "x.log").warnings]
    assert [(warning.what, warning.skipped) for warning in found] == [(what, skipped)]


def test_the_lines_tell_batch_and_norm():
    log = text.read(
        "[警告] 梯度范数过大 (16.62)，进行梯度裁剪并降低学习率\n[警告] 权重包含NaN/Inf，跳过batch 9\n", "x.log"
    )
    assert [(warning.norm, warning.batch) for _, warning in log.warnings] == [(16.62, None), (None, 9)]


def test_a_heading_says_whose_losses_follow():
    log = text.read("Epoch 0/24\n----------\ntrain Loss: 2.3 Acc: 0.5\nval Loss: 2.1 Acc: 0.6\n", "x.log")
    assert [(row.train, row.validation) for row in log.rows] == [(None, None), (2.3, None), (None, 2.1)]
    assert log.epochs == (1, 1, 1)


def test_a_bar_that_is_drawn_again_counts_once():
    bar = "Epoch 1:  4%|▏| {n}/25 [00:00<00:01, 9it/s, loss={loss}]"
    drawn = "\r".join(bar.format(n=n, loss=loss) for n, loss in ((1, 3.0), (2, 3.0), (2, 2.5), (3, 2.0)))
    assert [row.train for row in rows(drawn)] == [3.0, 2.5, 2.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_log_of_a_windows_console_is_read(tmp_path: Path, encoding: str):
    path = tmp_path / "train.log"
    path.write_bytes("epoch 1 loss: 0.5\n[警告] 权重包含NaN/Inf，跳过batch 9\n".encode(encoding))
    log = sniff.read(path)
    assert sniff.is_log(path) and log.rows[0].train == 0.5 and log.warnings[0][1].what == alarms.WEIGHT


@pytest.mark.parametrize(("name", "role"), [
    ("train_loss", "train"), ("Loss/train", "train"), ("loss", "train"), ("train_loss_epoch", "train"),
    ("val_loss", "validation"), ("Loss/val", "validation"), ("eval/loss", "validation"), ("test_loss", "validation"),
    ("validation.loss", "validation"), ("验证损失", "validation"), ("训练损失", "train"),
    ("lr-AdamW", "lr"), ("learning_rate", "lr"), ("train/learning_rate", "lr"), ("lr-SGD/pg1", "lr"),
    ("grad_norm", "norm"), ("grad_2.0_norm_total", "norm"), ("gnorm", "norm"), ("train/grad_norm", "norm"),
    ("epoch", "epoch"), ("global_step", "step"), ("trainer/global_step", "step"), ("iter", "step"),
    ("d_loss", "rival"), ("loss_G", "rival"), ("policy_loss", "rival"),
    ("loss_scale", None), ("val_acc", None), ("eval_runtime", None), ("color", None), ("best_val_loss", None),
])  # fmt: skip
def test_a_name_means(name: str, role: str | None):
    assert role_of(name) == role


def table(tmp_path: Path, name: str, content: str) -> Log:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert sniff.is_log(path)
    return sniff.read(path)


def test_the_guides_history_is_read(tmp_path: Path):
    log = table(tmp_path, "training_history.csv", "epoch,train_loss,val_loss,val_acc\n1,0.5,2.2,0.1\n2,0.4,nan,0.2\n")
    assert log.rows[0] == Row(epoch=1, train=0.5, validation=2.2) and math.isnan(log.rows[1].validation or 0)


@pytest.mark.parametrize("content", [
    "Epoch;Training Loss;Validation Loss;LR\n1;0.5;0.6;0.001\n",
    "epoch\ttraining_loss\tvalid_loss\tlearning_rate\n1\t0.5\t0.6\t1e-3\n",
    ",epoch,loss,val_loss,lr\n0,1,0.5,0.6,0.001\n",
])  # fmt: skip
def test_other_columns_and_separators_are_recognised(tmp_path: Path, content: str):
    assert table(tmp_path, "history.csv", content).rows == (Row(epoch=1, train=0.5, validation=0.6, lr=1e-3),)


def test_lightnings_sparse_rows_keep_their_gaps(tmp_path: Path):
    log = table(tmp_path, "metrics.csv", "epoch,step,train_loss,val_loss\n0,1,2.5,\n0,14,,1.8\n")
    assert log.kind == "Lightning's metrics.csv"
    assert [(row.step, row.train, row.validation) for row in log.rows] == [(1, 2.5, None), (14, None, 1.8)]


def test_trainer_state_is_read(tmp_path: Path):
    history = [
        {"epoch": 0.5, "loss": 0.7, "grad_norm": "nan", "learning_rate": 1e-5, "step": 10},
        {"epoch": 1.0, "eval_loss": 0.6, "step": 20},
        {"epoch": 1.0, "train_loss": 0.65, "step": 20},
    ]
    log = table(tmp_path, "trainer_state.json", json.dumps({"log_history": history, "train_batch_size": 8}, indent=2))
    assert [(row.step, row.train, row.validation) for row in log.rows][:2] == [(10, 0.7, None), (20, None, 0.6)]
    assert math.isnan(log.rows[0].norm or 0) and log.said.batch_size == 8


def test_a_history_of_keras_in_json_is_read(tmp_path: Path):
    log = table(tmp_path, "history.json", json.dumps({"loss": [0.9, 0.5], "val_loss": [1.0, 0.7]}))
    assert [(row.train, row.validation) for row in log.rows] == [(0.9, 1.0), (0.5, 0.7)]


def test_an_event_file_is_read(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    for step, loss in enumerate((2.0, 1.0, math.nan)):
        writer.add_scalar("Loss/train", loss, step)
        writer.add_scalar("Loss/val", 3.0, step)
        writer.add_text("note", "hello", step)
        writer.add_histogram("weights", __import__("numpy").arange(5.0), step)
    writer.close()
    log = sniff.read(next(tmp_path.iterdir()))
    assert [row.train for row in log.rows[:2]] == [2.0, 1.0] and math.isnan(log.rows[2].train or 0)
    assert log.rows[0].validation == 3.0 and log.rows[1].step == 1


def test_without_tensorboard_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.backend.event_processing.event_file_loader", None)
    sample = Path(__file__).parents[2] / "sample_logs" / "events-sick.tfevents"
    with pytest.raises(UserError) as caught:
        sniff.read(sample)
    assert "tensorboard" in caught.value.try_this and "pip install" in caught.value.try_this


def test_a_damaged_event_file_is_a_user_error_or_read_as_far_as_it_goes(tmp_path: Path):
    pytest.importorskip("tensorboard")
    whole = (Path(__file__).parents[2] / "sample_logs" / "events-healthy.tfevents").read_bytes()
    path = tmp_path / "cut.tfevents"
    path.write_bytes(whole[: len(whole) // 2])
    assert 10 < len(sniff.read(path).rows) < 110
    path.write_bytes(whole[:60] + b"\xff" * 200)
    with pytest.raises(UserError):
        sniff.read(path)


@pytest.mark.parametrize("content", [b"", b"PAR1 something", b"\x00\x01\x02 loss: 0.5"])
def test_what_is_no_text_is_left_to_the_reader_of_traces(tmp_path: Path, content: bytes):
    path = tmp_path / "thing"
    path.write_bytes(content)
    assert not sniff.is_log(path)


@pytest.mark.parametrize(("name", "content"), [
    ("poem.txt", "roses are red\n"), ("x.json", "[[[1]]]"), ("x.json", '{"log_history": 3}'), ("x.json", "[" * 100_000),
    ("h.csv", "a,b\n1,2\n"), ("x.json", '{\n"a": '),
])  # fmt: skip
def test_what_holds_no_training_is_a_user_error(tmp_path: Path, name: str, content: str):
    with pytest.raises(UserError):
        table(tmp_path, name, content)


@settings(max_examples=60, deadline=None)
@given(
    st.text(
        alphabet=st.sampled_from("epochlstrainvd 0123456789.:=|/[](){}'\",\n\r\x1b-+e警告梯度损失跳过nNaAf%"),
        max_size=400,
    )
)
def test_no_text_makes_the_reader_fail(content: str):
    log = text.read(content, "x.log")
    assert all(row.warned is None or row.train is None for row in log.rows)
