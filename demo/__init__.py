"""Show the package at work: a real Airflow, the simulator, and the example DAGs (`python -m demo`)."""
