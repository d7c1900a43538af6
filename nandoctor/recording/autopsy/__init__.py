"""After an alarm: from a non-finite value back to the operation that bore it."""
