"""A GPT of your own: the model, its training and sampling in one file.

It reads the Python language reference, which comes with Python, character by character, and learns
to write something like it.

Run: python examples/03_gpt.py [--steps 1000]
"""

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np

import groundup as gu
from groundup import nn, ops, optim, random
from groundup.data import Batches, CharTokenizer, embedded_corpus, split_by_position

# ---- the model ----


@dataclass(frozen=True)
class Config:
    vocab_size: int
    block_size: int = 64  # how many characters it looks back
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 128


class CausalSelfAttention(nn.Module):
    """Each position asks the ones before it for what they know."""

    def __init__(self, config: Config) -> None:
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)  # all heads' queries, keys, values
        self.out = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: gu.Tensor) -> gu.Tensor:
        B, T, C = x.shape
        packed = self.qkv(x).reshape(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = packed.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)

        # Written out. One call of ops.scaled_dot_product_attention does the same, faster.
        scores = q @ k.mT / math.sqrt(C // self.n_head)  # (B, H, T, T)
        future = gu.ones(T, T, dtype="bool").triu(1)
        weights = future.where(-math.inf, scores).softmax(axis=-1)
        y = (weights @ v).permute(0, 2, 1, 3).reshape(B, T, C)  # the heads side by side again
        return self.out(y)


class Block(nn.Module):
    """Attention, so that positions exchange; an MLP, so that each thinks. Both add to x."""

    def __init__(self, config: Config) -> None:
        self.norm1 = nn.LayerNorm(config.n_embd)
        self.attention = CausalSelfAttention(config)
        self.norm2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
        )

    def forward(self, x: gu.Tensor) -> gu.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, config: Config) -> None:
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.Sequential(*[Block(config) for _ in range(config.n_layer)])
        self.norm = nn.LayerNorm(config.n_embd)
        for name, parameter in self.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: gu.Tensor) -> gu.Tensor:
        """Logits (B, T, vocab_size) for the character after each of `ids` (B, T)."""
        positions = gu.arange(ids.shape[1])
        x = self.tokens(ids) + self.positions(positions)
        x = self.norm(self.blocks(x))
        return ops.linear(x, self.tokens.weight)  # the embedding, used backwards

    def loss(self, ids: gu.Tensor, targets: gu.Tensor) -> gu.Tensor:
        return ops.cross_entropy(self(ids), targets)


# ---- sampling ----


def write(model: GPT, tokenizer: CharTokenizer, prompt: str, length: int, seed: int) -> str:
    """`prompt` and `length` characters more, each drawn from the model's distribution."""
    rng = np.random.default_rng(seed)
    ids = tokenizer.encode(prompt).tolist()
    with gu.no_grad():
        for _ in range(length):
            context = gu.tensor([ids[-model.config.block_size :]], dtype="int32")
            probabilities = (model(context)[0, -1] / 0.8).softmax().numpy().astype(np.float64)
            ids.append(int(rng.choice(len(probabilities), p=probabilities / probabilities.sum())))
    return tokenizer.decode(ids)


# ---- training ----


def learning_rate(step: int, steps: int, peak: float) -> float:
    """A short linear warm-up, then down along a cosine to a tenth."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def validate(model: GPT, batches: Batches, count: int = 10) -> float:
    with gu.no_grad():
        pairs = (map(gu.from_numpy, batches.batch(step)) for step in range(count))
        return float(np.mean([model.loss(x, y).item() for x, y in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    text = embedded_corpus()
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    train_ids, val_ids = split_by_position(ids, 0.1)

    random.manual_seed(arguments.seed)
    config = Config(vocab_size=tokenizer.vocab_size)
    model = GPT(config)
    train = Batches(train_ids, arguments.batch_size, config.block_size, arguments.seed)
    val = Batches(val_ids, arguments.batch_size, config.block_size, arguments.seed)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    print(f"{model.num_parameters():,} parameters, {len(train_ids):,} characters to learn from")
    print(f"a guess costs ln {config.vocab_size} = {math.log(config.vocab_size):.2f}")

    begun = time.time()
    for step in range(arguments.steps):
        x, y = map(gu.from_numpy, train.batch(step))
        loss = model.loss(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate(step, arguments.steps, 3e-3)
        optimizer.step()
        optimizer.zero_grad()
        if step % max(1, arguments.steps // 10) == 0 or step == arguments.steps - 1:
            print(
                f"step {step:4}: loss {loss.item():.3f}, validation {validate(model, val):.3f}, "
                f"{time.time() - begun:.0f} s"
            )
    print(write(model, tokenizer, "The ", 300, arguments.seed))


if __name__ == "__main__":
    main()
