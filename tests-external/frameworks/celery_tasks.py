"""The Celery application that worker and check share; the environment says how it is set up.

Every execution is noted as a line in the file `EXECUTIONS`, so that the check can count them.
"""

import json
import os

from celery import Celery

app = Celery("staunch", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])
app.conf.update(
    task_default_queue=os.environ["TASK_QUEUE"],
    task_default_queue_type=os.environ["QUEUE_TYPE"],
    # Native delayed delivery needs an exchange that is not `direct`.
    task_default_exchange_type=os.environ["EXCHANGE_TYPE"],
    task_acks_late=True,
    result_persistent=False,
    worker_prefetch_multiplier=2,
    worker_detect_quorum_queues=True,
    broker_native_delayed_delivery_queue_type=os.environ["QUEUE_TYPE"],
    broker_connection_retry_on_startup=True,
)


def note(task) -> None:
    """Writes down that this execution took place; one line is written at once."""
    line = {
        "id": task.request.id,
        "name": task.name,
        "retries": task.request.retries,
        "redelivered": task.request.delivery_info.get("redelivered"),
    }
    with open(os.environ["EXECUTIONS"], "a", encoding="utf-8") as executions:
        executions.write(json.dumps(line) + "\n")


@app.task(bind=True)
def add(self, left, right):
    """The sum."""
    note(self)
    return left + right


@app.task(bind=True)
def total(self, numbers):
    """The sum of all: the body of a chord."""
    note(self)
    return sum(numbers)


@app.task(bind=True)
def third_time(self, value):
    """Succeeds at its third execution."""
    note(self)
    if self.request.retries < 2:
        raise self.retry(countdown=1, max_retries=2)
    return value


@app.task(bind=True)
def never(self):
    """Fails at once."""
    note(self)
    raise ValueError("as it should")
