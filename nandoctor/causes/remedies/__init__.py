"""What the source documents prescribe (docs/sources.md), one file a document: functions of the evidence.

this_run.py holds the numbers of the run that they adapt to, code_lines.py the style that their code lines follow.
"""
