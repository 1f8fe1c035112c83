"""Closed forms and quadrature in float64: what a gradient will do, before anything runs.

One file per subject: `descent` (notebook 01), `matrices` (03), `mean_field` (04 and 05).
"""
