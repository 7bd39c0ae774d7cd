"""Nouns and verbs of hand-tagged sentences are counted; without textblob the rule is off and says so."""

from __future__ import annotations

import pytest

from palate.data.curate.row_rules import MoreNounsAndVerbs, nouns_and_verbs

# n after a noun, v after a verb (auxiliaries too), nothing after the rest.
SENTENCES = """
The cat/n sat/v on the mat/n and ate/v a fish/n .
You should add/v salt/n to the water/n , then stir/v it gently .
Berlin/n is/v the capital/n of Germany/n .
My brother/n plays/v football/n every weekend/n with his friends/n .
She was/v writing/v a long letter/n to her mother/n .
The government/n announced/v a new policy/n on education/n .
We need/v more information/n about the problem/n .
Scientists/n discovered/v that the bacteria/n resist/v the drug/n .
He quickly opened/v the door/n and ran/v into the garden/n .
Children/n learn/v languages/n faster than adults/n .
The movie/n was/v really boring , but the actors/n were/v good .
Please read/v the instructions/n before you install/v the software/n .
The weather/n has/v been/v cold this week/n .
They decided/v to buy/v a small house/n near the lake/n .
A healthy diet/n includes/v vegetables/n , fruit/n and nuts/n .
I want/v to visit/v Paris/n next summer/n .
The teacher/n explained/v the theory/n with simple examples/n .
Water/n boils/v at a lower temperature/n in the mountains/n .
The company/n sells/v computers/n and phones/n .
Birds/n fly/v south when winter/n comes/v .
You can/v use/v this function/n to sort/v the list/n .
The old man/n walked/v slowly across the street/n .
Exercise/n improves/v your health/n and reduces/v stress/n .
The results/n show/v a clear difference/n between the groups/n .
My computer/n does/v not start/v after the update/n .
Our neighbours/n have/v two dogs/n and a cat/n .
The book/n tells/v the story/n of a young woman/n .
Doctors/n recommend/v eight hours/n of sleep/n .
The train/n leaves/v at noon/n from the station/n .
He forgot/v his keys/n in the office/n .
Many people/n believe/v that the movie/n is/v true .
The river/n flows/v through the city/n .
Plants/n need/v light/n and water/n .
The president/n gave/v a speech/n about peace/n .
I think/v the answer/n is/v wrong .
The engineers/n built/v a bridge/n over the river/n .
Try/v to relax/v and breathe/v deeply .
Her sister/n works/v as a nurse/n in London/n .
The recipe/n requires/v flour/n , sugar/n and eggs/n .
It rained/v all day/n , so we stayed/v at home/n .
""".strip().splitlines()


def test_nouns_and_verbs() -> None:
    found = expected = 0
    for sentence in SENTENCES:
        words = [word.partition("/") for word in sentence.split()]
        marked = sum(bool(mark) for _, _, mark in words)
        counted = nouns_and_verbs(" ".join(word for word, _, _ in words))
        assert abs(counted - marked) <= 2, sentence
        found, expected = found + counted, expected + marked
    assert 0.9 < found / expected < 1.1


def test_more_content_counts_more() -> None:
    rich = "Boil the potatoes, drain the water, add butter and salt, and mash the mixture with a fork."
    poor = "Well, it really is quite nice, and so very good, too."
    assert nouns_and_verbs(rich) > 2 * nouns_and_verbs(poor)
    assert nouns_and_verbs("") == 0


def test_without_textblob_the_rule_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MoreNounsAndVerbs().off() == ""
    monkeypatch.setattr("palate.data.curate.row_rules.find_spec", lambda name: None)
    assert MoreNounsAndVerbs().off() == "off: needs textblob; pip install 'palate[nouns]'"
