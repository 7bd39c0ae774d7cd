"""An Airflow DAG that drives a loop: each run is one tick; the loop's own ledger knows what comes next."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG(
    "palate_loop",
    schedule="@hourly",
    start_date=datetime(2026, 1, 5),
    catchup=False,  # a missed tick needs no second one
    max_active_runs=1,
    default_args={"retries": 0, "execution_timeout": timedelta(hours=20)},  # the next tick is the retry
) as dag:
    tick = BashOperator(
        task_id="tick",
        bash_command="palate loop tick /var/lib/palate/loop.yaml",
        append_env=True,
        env={"PALATE_STORE": "{{ conn.palate_store.get_uri() }}"},
    )
