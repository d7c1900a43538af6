"""Diagnosis and traces as something to read: terminal, JSON, pictures."""
