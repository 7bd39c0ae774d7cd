"""Benchmarks whose answers are judged: models write answers, and a judge grades or compares them.

| file              | contents                                                                    |
|-------------------|-----------------------------------------------------------------------------|
| `benchmark.py`    | what such a benchmark is: its questions, baseline and own questions to a judge |
| `answers.py`      | the answers of a model, written now or recorded before                      |
| `prompt_judge.py` | a chat model that is asked with a benchmark's own question                  |
| `grades.py`       | grades from 1 to 10 for each turn                                           |
| `pairs.py`        | verdicts against a baseline, and their figures (`evaluation.winrate`)       |
| `run.py`          | all of it in order, resumable                                               |
"""
