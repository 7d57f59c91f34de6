"""Read and write DAGs as each supported Airflow does: the classes moved."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization
else:
    try:
        from airflow.dag_processing.dagbag import DagBag
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

__all__ = ["DagBag", "DagSerialization", "read_dags"]

_BUNDLE = "dags-folder"


def read_dags(path: Path, dags_folder: Path) -> DagBag:
    """
    Read the DAGs of a file or folder, as a part of the bundle that the tests' Airflow has.

    :param dags_folder: the bundle's root.
    """
    module: Any = importlib.import_module(DagBag.__module__)
    if module.__name__ == "airflow.dag_processing.dagbag":
        return DagBag(path, bundle_name=_BUNDLE, bundle_path=dags_folder)
    dag_bag: DagBag = module.DagBag(path, bundle_path=dags_folder)
    if hasattr(module, "sync_bag_to_db"):
        # dag.test() of Airflow 3.1 runs only what is in the database.
        bundles: Any = importlib.import_module("airflow.dag_processing.bundles.manager")
        bundles.DagBundlesManager().sync_bundles_to_db()
        module.sync_bag_to_db(dag_bag, _BUNDLE, None)
    return dag_bag
