"""The promise between the two halves: what a recording writes and what an analysis reads."""
