"""The cure as a change of the user's script: what diagnosis knows, written as a unified diff."""
