"""What runs in the training's process: standard library, torch, and numpy where the training has it."""
