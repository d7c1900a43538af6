import torch
import torch.nn as nn


class Reader(nn.Module):
    """LSTM over a question, nn.MultiheadAttention over a memory of facts."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 16, batch_first=True)
        self.attend = nn.MultiheadAttention(16, 4, kdim=8, vdim=8, batch_first=True)
        self.answer = nn.Linear(32, 5)

    def forward(self, question, memory, missing):
        state, _ = self.lstm(question)
        query = state[:, -1:]
        found, weights = self.attend(query, memory, memory, key_padding_mask=missing, need_weights=True)
        return self.answer(torch.cat([query, found], dim=-1).squeeze(1)), weights


def sample(generator, step):
    question = torch.randn(6, 4, 6, generator=generator)
    memory = torch.randn(6, 5, 8, generator=generator)
    count = torch.randint(1, 6, (6,), generator=generator)
    if step == 9:
        count[2] = 0
    missing = torch.arange(5)[None] >= count[:, None]
    label = question[:, 0].argmax(-1).clamp(max=4)
    return question, memory, missing, label


def main():
    torch.manual_seed(17)
    generator = torch.Generator().manual_seed(18)
    reader = Reader()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
    bad = 0
    for step in range(15):
        question, memory, missing, label = sample(generator, step)
        logits, _ = reader(question, memory, missing)
        loss = nn.functional.cross_entropy(logits, label, label_smoothing=0.1)
        if torch.isnan(loss):
            bad += 1
            print("nan loss, batch skipped")
            continue
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        print(step, f"{loss.item():.5f}")
    print("skipped", bad, "checksum", reader.answer.weight.sum().item())


main()
