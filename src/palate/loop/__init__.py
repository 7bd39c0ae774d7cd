"""Runs the cycle from collected feedback to the next served model, and decides whether a model may replace another.

| file             | contents                                                                    |
|------------------|-----------------------------------------------------------------------------|
| `gate/`          | whether a candidate may replace the incumbent: its config, decision, evidence |
| `debug.py`       | what is known of a candidate that was not deployed                          |
| `advice.py`      | what to do next, by rules over these facts                                  |
| `sources.py`     | one training set from people, judges, edits, choices, thumbs, imported sets |
| `canary.py`      | whether a canary is kept, ended or may be promoted                          |
| `config.py`      | loop.yaml                                                                   |
| `cycle.py`       | begins a cycle: checks, incumbent, copies of the configs                    |
| `tick.py`        | runs the steps that are ready, through the ledger (`ledger.py`)             |
| `steps/`         | each step: the commands that it runs, and what it waits for                 |
| `work.py`        | what a step is given and what it yields; `train_config.py`: overrides of the training config |
| `process.py`     | one tick at a time; commands as child processes                             |
| `demo/`          | the whole circle on the demo's model and data, with simulated people        |
| `status.py`      | the state of a loop from its ledger; `plan.py`: what is still to run        |
"""
