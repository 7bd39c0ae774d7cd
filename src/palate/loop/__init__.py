"""Decides whether a trained model may replace the one in use.

| file             | contents                                                                    |
|------------------|-----------------------------------------------------------------------------|
| `gate_config.py` | what is fixed before the run: prompts, judge, margins, error rate; its check |
| `gate.py`        | the decision: PASS, FAIL or INCONCLUSIVE, a pure function of config and evidence |
| `evidence.py`    | reads the evidence from result folders                                      |
| `debug.py`       | what is known of a candidate that was not deployed                          |
| `advice.py`      | what to do next, by rules over these facts                                  |
| `sources.py`     | one training set from people, judges, edits, choices, thumbs, imported sets |
"""
