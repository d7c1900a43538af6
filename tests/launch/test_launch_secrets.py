import pytest
from hypothesis import given
from hypothesis import strategies as st

from nandoctor.launch.secrets import masked


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["--token", "abc"], ["--token", "***"]),
        (["--hf-token=abc", "x"], ["--hf-token=***", "x"]),
        (["--wandb_api_key", "abc"], ["--wandb_api_key", "***"]),
        (["--apikey=abc"], ["--apikey=***"]),
        (["--password", "a b c"], ["--password", "***"]),
        (["env", "HF_TOKEN=abc", "python"], ["env", "HF_TOKEN=***", "python"]),
        (["logger.api_key=abc"], ["logger.api_key=***"]),
        (["sh", "-c", "python t.py --token abc --lr 1"], ["sh", "-c", "python t.py --token *** --lr 1"]),
        (["sh", "-c", "WANDB_API_KEY='a b' python t.py"], ["sh", "-c", "WANDB_API_KEY=*** python t.py"]),
        (["hf_abcdefghij1234"], ["***"]),
        (["--x", "sk-proj-abcdefgh_123"], ["--x", "***"]),
        (["postgres://me:pass@host/db"], ["postgres://me:***@host/db"]),
    ],
)
def test_what_looks_like_a_secret_is_masked(command, shown):
    assert masked(command) == shown


@pytest.mark.parametrize(
    "argument",
    [
        "--tokenizer=gpt2",
        "--max-tokens",
        "--keyframes=3",
        "--lr=0.1",
        "--monkey=1",
        "train.py",
        "-m",
        "sk-1",
        "https://host:80/x",
    ],
)
def test_what_only_sounds_like_one_is_not(argument):
    assert masked([argument, "512"]) == [argument, "512"]


def test_a_flag_without_a_value_hides_no_other_option():
    assert masked(["--use-key", "--lr", "1"]) == ["--use-key", "--lr", "1"]


@given(st.lists(st.text()))
def test_any_command_line_keeps_its_number_of_arguments(command):
    assert len(masked(command)) == len(command)
