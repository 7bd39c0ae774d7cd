"""The evaluation of a run in one document, from what `palate eval accuracy`, `winrate` and `bench` wrote.

results.py      finds and reads the result files
headline.py     the main figure of each result, for the top of the page and for the model card
accuracy.py, winrates.py, benchmarks.py   a section for each kind of result
page.py         the document, its files, and the model card
"""
