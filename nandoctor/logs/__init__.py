"""What a log alone can tell of a training that nobody recorded: any log -> one table -> a Diagnosis.

sniff.py tells logs from traces, formats/ turns each kind into the rows of table.py, course.py says how the run went,
and opinions.py weighs what may have caused it. No verdict is surer than a log allows.
"""
