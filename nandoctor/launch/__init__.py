"""The waiting parent of a recorded command: environment, child, signals, exit code, spool -> trace."""
