"""Faults of a real cluster, and of ourselves on one: whole installations run on it while parts are taken away.

The tasks' own commands write a ledger in the pipeline's folder, and the checker of the crash tests holds it
against the log. TRACKBOOK_FAULTS=long makes more of it, TRACKBOOK_FAULTS_KILLS says how often we are killed.
"""
