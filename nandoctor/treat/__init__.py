"""Active mode: what is done to a training while it runs. Nothing here is loaded unless `--active` asked for it."""
