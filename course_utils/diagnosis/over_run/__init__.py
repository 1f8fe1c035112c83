"""What `diagnose_run` looks for in a whole run: one file for each kind of finding.

A new kind takes a name in `report.KINDS`, a file here with a rule that returns its `Finding`, a
place in `RULES` in diagnose_run.py, and a family in tests/run_zoo.py.
"""
