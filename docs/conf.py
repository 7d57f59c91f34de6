"""Configuration of the documentation's build."""

import atexit
import os
import shutil
import tempfile

# Autodoc imports Airflow, which writes a configuration file into its home.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="agentruns-docs-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

from airflow_provider_agentruns import __version__  # noqa: E402

project = "airflow-provider-agentruns"
author = "The airflow-provider-agentruns authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
