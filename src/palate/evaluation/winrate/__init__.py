"""Win rate of a model A against a model B: answers to the same prompts, verdicts in both orders, and statistics.

| file         | contents                                                             |
|--------------|----------------------------------------------------------------------|
| `sides.py`   | what A and B may be, and their answers to the prompts                |
| `folder.py`  | files of a win rate, and the answers of both sides as candidates     |
| `items.py`   | verdicts or votes as scored items, by category and by length, too    |
| `measure.py` | the figures over all items, also at equal length and style           |
| `result.py`  | figures with bands, findings and regressions, and their JSON         |
| `run.py`     | all of it in order, resumable                                        |
| `leaks.py`   | prompts that stand in the training data of A or B                    |
"""
