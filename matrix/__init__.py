"""The tests on each Airflow and Python that is supported: `python -m matrix`."""
