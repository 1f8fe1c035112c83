"""What `diagnose` looks for: one file for each kind of finding.

A new kind takes a name in `report.KINDS`, a file here with a rule that returns its `Finding`, and a
place in `RULES` in diagnose.py; what the rule needs and is not measured yet goes into
`MeasuredPass`. Its test goes into tests/diagnosis/rules, and a family that has it into the zoo.
"""
