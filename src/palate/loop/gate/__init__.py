"""Decides whether a candidate may replace the incumbent: PASS, FAIL or INCONCLUSIVE.

| file          | contents                                                                       |
|---------------|--------------------------------------------------------------------------------|
| `config.py`   | what is fixed before the run: prompts, judge, margins, error rate; its check   |
| `decision.py` | the verdict, a pure function of config and evidence                            |
| `evidence.py` | reads the evidence from result folders                                         |
"""
