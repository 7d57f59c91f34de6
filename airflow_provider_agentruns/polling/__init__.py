"""Decide when to ask for a run's status, and what an answer means for who waits."""
