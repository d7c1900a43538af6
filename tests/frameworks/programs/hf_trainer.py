import os

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2Model, PreTrainedModel, PrinterCallback, Trainer, TrainingArguments
from transformers.modeling_outputs import CausalLMOutput

SICK = False


class Texts(Dataset):
    def __init__(self, count):
        self.ids = torch.randint(1, 64, (count, 12), generator=torch.Generator().manual_seed(count))
        if SICK and count == 256:
            self.ids[8 * 11 + 2] = 0

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, place):
        ids = self.ids[place]
        labels = ids.clone()
        labels[:4] = -100
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


class Pooled(nn.Module):
    def forward(self, states, mask):
        mask = mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


class Tiny(PreTrainedModel):
    config_class = GPT2Config

    def __init__(self, config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.pooled = Pooled()
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        states = self.transformer(input_ids=input_ids).last_hidden_state
        logits = self.lm_head(states + self.pooled(states, attention_mask))
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


arguments = TrainingArguments(
    "out", max_steps=24, per_device_train_batch_size=8, gradient_accumulation_steps=2, learning_rate=1e-3,
    logging_steps=4, eval_strategy="steps", eval_steps=8, save_strategy="no", report_to=[], disable_tqdm=True,
    use_cpu=True, max_grad_norm=0.5, lr_scheduler_type="cosine", warmup_steps=4, bf16=True,
    train_sampling_strategy="sequential",
)
torch.manual_seed(0)
model = Tiny(GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
trainer = Trainer(model, arguments, train_dataset=Texts(256), eval_dataset=Texts(16))
trainer.remove_callback(PrinterCallback)
trainer.train()
trainer.state.save_to_json("trainer_state.json")
for entry in trainer.state.log_history:
    print({name: value for name, value in entry.items() if name in ("step", "loss", "grad_norm", "eval_loss")})
