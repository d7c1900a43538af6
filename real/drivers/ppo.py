"""stable-baselines3's PPO on gymnasium's CartPole; its settings as NAME=VALUE."""

import sys

from stable_baselines3 import PPO

settings = {name: float(value) for name, value in (word.split("=") for word in sys.argv[1:])}
PPO("MlpPolicy", "CartPole-v1", n_steps=128, batch_size=32, n_epochs=4, seed=0, device="cpu", **settings).learn(1024)
