"""What the source documents prescribe (docs/sources.md), one file a document: functions of the evidence."""
