"""Calibration: what a judge's verdicts are worth, measured against the votes of people.

verdicts.py    asks a judge in both orders
biases.py      place, length, own answers, repetition
prompts.py     spread over the judge's prompts
reasons.py     reasons that contradict their verdict
canaries.py    answers that must lose
correction.py  win rates of models, corrected
measure.py     all of it, as a card
card.py        the card: file, store, identity of a judge
"""

from palate.feedback.calibration.card import JudgeCard, load_card, newest_card, save_card, unmeasured_note, write_card
from palate.feedback.calibration.measure import Extent, measure

__all__ = ["Extent", "JudgeCard", "load_card", "measure", "newest_card", "save_card", "unmeasured_note", "write_card"]
