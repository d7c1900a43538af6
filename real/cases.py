"""The programs, and what is changed to make each of them sick."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DRIVERS = Path(__file__).parent / "drivers"
HF = ("--output_dir", "out", "--report_to", "none", "--use_cpu", "--max_steps", "60", "--save_strategy", "no",
      "--disable_tqdm", "true", "--logging_steps", "20", "--per_device_train_batch_size", "8")  # fmt: skip
PL = ("--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_checkpointing", "false",
      "--trainer.enable_progress_bar", "false")  # fmt: skip


@dataclass(frozen=True)
class Case:
    name: str
    code: str  # whose code trains
    command: tuple[str, ...]
    data: Callable[[Path], None] | None = None  # writes what the command reads
    causes: tuple[str, ...] = ("healthy",)  # right verdicts, the planted one first
    changed: str = ""  # what made it sick
    phase: str | None = None  # of the first non-finite value, where that is certain
    op: str | None = None


def driver(name: str, *arguments: str) -> tuple[str, ...]:
    return ("python", str(DRIVERS / f"{name}.py"), *arguments)


def text(folder: Path) -> None:
    words = "the a training model layer step loss goes rises falls of in and then again".split()
    chosen = random.Random(0)
    (folder / "data").mkdir()
    lines = (" ".join(chosen.choices(words, k=12)) for _ in range(300))
    (folder / "data" / "wikitext-2.txt").write_text("\n".join(lines) + "\n")


def texts(ignored: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        chosen = random.Random(0)
        rows = [[0, *(chosen.randrange(1, 64) for _ in range(12))] for _ in range(256)]
        for row in rows:  # a few are ignored as they should be: all of a batch where `ignored`
            row[0] = -100 if ignored and row[1] < 60 else row[1] // 16
        (folder / "texts.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))

    return write


def table(classes: int = 0, spoil: Callable[[list[list[float]]], None] = lambda rows: None) -> Callable[[Path], None]:
    """A target in the first column, eight features behind it; `spoil` changes the rows."""

    def write(folder: Path) -> None:
        chosen = random.Random(0)
        rows = []
        for _ in range(640):
            features = [chosen.gauss(0, 1) for _ in range(8)]
            target = sum(features[:4])
            rows.append([float(int(target > -1) + int(target > 1)) if classes else target, *features])
        spoil(rows)
        (folder / "table.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))

    return write


def nan_cell(rows: list[list[float]]) -> None:
    rows[330][4] = float("nan")


def loud_row(rows: list[list[float]]) -> None:
    rows[330] = [rows[330][0], *(3e6 * value for value in rows[330][1:])]


def series(folder: Path) -> None:
    chosen = random.Random(0)
    lines = ["series,time,value"]
    for number in range(20):
        value = 0.0
        for time in range(60):
            value = 0.8 * value + chosen.gauss(0, 1)
            lines.append(f"{number},{time},{value:.4f}")
    (folder / "series.csv").write_text("\n".join(lines))


def graphs(optimizer: str, lr: float) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "graph.yaml").write_text(
            "out_dir: out\naccelerator: cpu\ndataset:\n  format: fake\n  name: fake\n  task: node\n"
            "  task_type: classification\ntrain:\n  batch_size: 8\n  eval_period: 50\n"
            "model:\n  type: gnn\n  loss_fun: cross_entropy\ngnn:\n  layers_pre_mp: 1\n  layers_mp: 2\n"
            "  layers_post_mp: 1\n  dim_inner: 16\n  layer_type: gcnconv\n  stage_type: stack\n  batchnorm: false\n"
            f"optim:\n  optimizer: {optimizer}\n  base_lr: {lr}\n  max_epoch: 40\n  scheduler: none\n"
            "  weight_decay: 0.0\n"
        )

    return write


def pykeen(lr: str) -> tuple[str, ...]:
    return ("pykeen", "train", "rescal", "--dataset", "nations", "--optimizer", "sgd", "--learning-rate", lr,
            "--number-epochs", "12", "--batch-size", "128", "--device", "cpu")  # fmt: skip


LR = ("lr-too-high",)
BORING = driver("lightning_boring", "fit", *PL, "--trainer.max_epochs", "1")
DEMO = driver("lightning_transformer", "fit", *PL, "--trainer.max_steps", "60")
SGD = ("--optimizer", "torch.optim.SGD", "--optimizer.lr")
GPT2 = driver("gpt2", *HF, "--learning_rate")
BERT = driver("bert", "texts.csv", *HF, "--learning_rate", "1e-3")
OF_LIGHTNING = "lightning, BoringModel by LightningCLI"
OF_DEMO = "lightning, its transformer demo by LightningCLI"
OF_GPT2, OF_BERT = "transformers, GPT-2 by Trainer", "transformers, BERT by Trainer"
OF_TABNET, OF_SKORCH = "pytorch-tabnet, TabNetRegressor.fit", "skorch, NeuralNetClassifier.fit"
OF_PPO, OF_PYKEEN = "stable-baselines3, PPO.learn", "pykeen, `pykeen train`"
OF_DEEPAR, OF_GRAPHGYM = "pytorch-forecasting, DeepAR (its example ar.py)", "torch-geometric, GraphGym"
CASES = (
    Case("boring-lr", OF_LIGHTNING, BORING, None, LR, "as shipped: lr 0.1 diverges on random data"),
    Case("demo", OF_DEMO, (*DEMO, *SGD, "0.1"), text),
    Case("demo-lr", OF_DEMO, (*DEMO, *SGD, "300"), text, LR, "--optimizer.lr 300"),
    Case("gpt2", OF_GPT2, (*GPT2, "1e-3"), None),
    Case("gpt2-lr", OF_GPT2, (*GPT2, "30"), None, LR, "--learning_rate 30"),
    Case("gpt2-init", OF_GPT2, (*GPT2, "1e-3", "--config.initializer_range=30"), None, ("bad-initialization",),
         "initializer_range 30 in its config"),
    Case("bert", OF_BERT, BERT, texts()),
    Case("bert-labels", OF_BERT, BERT, texts(ignored=True), ("bad-labels",), "labels -100 in the data",
         op="cross_entropy"),
    Case("tabnet", OF_TABNET, driver("tabnet", "table.csv", "0.02"), table()),
    Case("tabnet-lr", OF_TABNET, driver("tabnet", "table.csv", "1e6"), table(), LR, "lr 1e6"),
    Case("skorch", OF_SKORCH, driver("skorch_net", "table.csv", "0.1"), table(3)),
    Case("skorch-nan", OF_SKORCH, driver("skorch_net", "table.csv", "0.1"), table(3, nan_cell), ("bad-input-data",),
         "one NaN in the data", phase="input"),
    Case("skorch-loud", OF_SKORCH, driver("skorch_net", "table.csv", "0.1"), table(3, loud_row), ("data-outlier",),
         "one row of the data 3 million times too large"),
    Case("ppo", OF_PPO, driver("ppo"), None),
    Case("ppo-lr", OF_PPO, driver("ppo", "learning_rate=1e4"), None, LR, "learning_rate 1e4"),
    Case("deepar", OF_DEEPAR, driver("deepar", "series.csv", "0.01"), series),
    Case("deepar-lr", OF_DEEPAR, driver("deepar", "series.csv", "1e4"), series, LR, "learning_rate 1e4"),
    Case("graphgym", OF_GRAPHGYM, driver("graphgym", "--cfg", "graph.yaml"), graphs("adam", 0.01)),
    Case("graphgym-lr", OF_GRAPHGYM, driver("graphgym", "--cfg", "graph.yaml"), graphs("adam", 1e6), LR,
         "base_lr 1e6 in its YAML"),
    Case("pykeen", OF_PYKEEN, pykeen("0.5"), None),
    Case("pykeen-lr", OF_PYKEEN, pykeen("1e9"), None, LR, "--learning-rate 1e9"),
)  # fmt: skip
