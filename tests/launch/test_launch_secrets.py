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
        (["-p", "hunter2"], ["-p", "***"]),
        (["-p=hunter2"], ["-p=***"]),
        (["--pass", "a b"], ["--pass", "***"]),
        (["--pwd=abc"], ["--pwd=***"]),
        (["--password", "123456"], ["--password", "***"]),
        (["--dbpassword=abc"], ["--dbpassword=***"]),
        (["--passphrase", "abc"], ["--passphrase", "***"]),
        (["--auth", "me:abc"], ["--auth", "***"]),
        (["--basic-auth=me:abc"], ["--basic-auth=***"]),
        (["--bearer", "abc"], ["--bearer", "***"]),
        (["--credential", "abc"], ["--credential", "***"]),
        (["--credentials=abc"], ["--credentials=***"]),
        (["--access", "abc"], ["--access", "***"]),
        (["--access-key", "abc"], ["--access-key", "***"]),
        (["--aws-access-key-id", "abc"], ["--aws-access-key-id", "***"]),
        (["--hftoken", "abc"], ["--hftoken", "***"]),
        (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: Bearer ***"]),
        (["--header=Authorization: Basic YWJj"], ["--header=Authorization: Basic ***"]),
        (["Authorization:", "Bearer", "abc"], ["Authorization:", "Bearer", "***"]),
        (["X-Api-Key: abc"], ["X-Api-Key: ***"]),
        (["sh", "-c", "login -p abc; python t.py"], ["sh", "-c", "login -p ***; python t.py"]),
        (['{"api_key": "abc", "lr": 1}'], ['{"api_key": ***, "lr": 1}']),
        (["curl", "-u", "me:abc"], ["curl", "-u", "***"]),
        (["https://abcdefghij0123456789@host/x"], ["https://***@host/x"]),
        (["https://host/x?sig=abc%2F&y=1"], ["https://host/x?sig=***&y=1"]),
        (["0123456789abcdef0123456789abcdef01234567"], ["***"]),
        (["--x=aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d"], ["--x=***"]),
        (["AKIAIOSFODNN7EXAMPLE"], ["***"]),
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


@pytest.mark.parametrize(
    "command",
    [
        ["--passes", "3"],
        ["--author", "me"],
        ["--token-length", "5"],
        ["--max-token", "512"],
        ["--pad-token", "<pad>"],
        ["--eos_token=</s>"],
        ["--n-pass", "2"],
        ["--use-auth-token", "True"],
        ["--use-auth", "train.py"],
        ["--no-auth", "x"],
        ["--label-key", "label"],
        ["--compass", "north"],
        ["--passage", "a"],
        ["--password-file", "x"],
        ["--user", "me"],
        ["-p", "8080"],
        ["srun", "-p", "gpu", "python", "t.py"],
        ["sh", "-c", "mkdir -p out/x && python t.py"],
        ["python", "-m", "pytest", "-p", "no:cacheprovider"],
        ["python", "-P", "train.py"],
        ["python", "-u", "train.py"],
        ["python", "-c", "print(sorted(x, key=lambda key: key.y))"],
        ["--revision", "0123456789abcdef0123456789abcdef01234567"],
        ["--commit=0123456789abcdef0123456789abcdef01234567"],
        ["--run", "550e8400-e29b-41d4-a716-446655440000"],
        ["/data/Datasets/ImageNet2012/train/n01440764/images_v2"],
        ["--name=MyLongExperimentName2024WithResnet50AndAugmentV2"],
    ],
    ids=" ".join,
)
def test_an_ordinary_command_line_stays_readable(command):
    assert masked(command) == command


def test_a_flag_without_a_value_hides_no_other_option():
    assert masked(["--use-key", "--lr", "1"]) == ["--use-key", "--lr", "1"]


@given(st.lists(st.text()))
def test_any_command_line_keeps_its_number_of_arguments(command):
    assert len(masked(command)) == len(command)
