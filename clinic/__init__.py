"""A labelled corpus of training failures in PyTorch, and what nandoctor makes of it. See README.md."""
