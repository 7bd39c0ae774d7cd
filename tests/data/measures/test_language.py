"""Languages are identified; too little text is und, and code, JSON, tool calls and addresses do not count."""

from __future__ import annotations

import pytest

from palate.data.measures.language import language, prose


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("en", "The quick brown fox jumps over the lazy dog, and it is happy."),
        ("en", "What should I cook for dinner if I have only eggs?"),
        ("de", "Wie geht es dir? Ich habe heute nichts vor und bin sehr froh."),
        ("fr", "Bonjour, comment allez-vous ? Je suis content de vous voir dans la ville."),
        ("es", "¿Dónde está la biblioteca? No lo sé, pero quiero ir con mis amigos."),
        ("it", "Non so dove sia la stazione, ma posso chiedere alla polizia."),
        ("pt", "Não sei onde fica a estação, mas posso perguntar para você."),
        ("nl", "Hoe gaat het met je? Ik heb een vraag over de fiets van mijn broer."),
        ("sv", "Jag vill inte gå till skolan, men det är bra att lära sig och att läsa."),
        ("pl", "Nie wiem, czy to jest dobre, ale jak się masz?"),
        ("zh", "今天天气怎么样？我想出去走走。"),
        ("zh", "Python 是一种编程语言，用途广泛。"),
        ("ja", "これは日本語の文章です。東京に行きました。"),
        ("ko", "오늘 날씨가 어때요?"),
        ("ru", "Привет, как дела? Я хочу пойти домой."),
        ("uk", "Привіт, як твої справи? Я хочу їсти."),
        ("ar", "كيف حالك اليوم؟"),
        ("fa", "چطور می‌توانم کمک کنم؟ پرسش شما چیست؟"),
        ("hi", "आज मौसम कैसा है?"),
        ("cs", "Kde si mohu zítra koupit čerstvý chléb?"),
        ("sw", "Ninaweza kununua mkate mpya wapi kesho?"),
        ("ur", "میں کل تازہ روٹی کہاں سے خرید سکتا ہوں؟"),
        ("gu", "આવતીકાલે હું તાજી રોટલી ક્યાંથી ખરીદી શકું?"),
        ("und", "biodiversity"),
        ("und", "42"),
        ("und", "def f(x): return x + 1"),
        ("und", ""),
    ],
)
def test_language(expected: str, text: str) -> None:
    assert language(text) == expected


def test_curly_quotes_do_not_make_a_text_foreign() -> None:
    assert language("“I don’t know,” she said, “but it’s not what you think — is it?”") == "en"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Run this:\n```python\nprint('for in the is')\n```\nthen stop.", "Run this: then stop."),
        ('北京今天天气怎么样？\n{"city": "北京", "more": {"unit": "C"}}', "北京今天天气怎么样？"),
        ('Action: get_weather\nAction Input: {"city": "北京"}', ""),
        ("See https://example.org/the/of/and now", "See now"),
        (
            "An array [1, 2] stays, and so does this: it is text.",
            "An array [1, 2] stays, and so does this: it is text.",
        ),
    ],
)
def test_prose(text: str, expected: str) -> None:
    assert " ".join(prose(text).split()) == expected


def test_a_question_about_code_is_in_the_language_of_the_question() -> None:
    code = "```python\n" + "import random\nfor i in range(10):\n    print(i)\n" * 20 + "```"
    assert language(f"扫雷代码怎么写？请给我一个例子。{code}") == "zh"


def test_a_tool_call_is_in_no_language() -> None:
    assert language('Action: get_weather\nAction Input: {"city": "the city of London"}') == "und"


@pytest.mark.parametrize("text", ["Name a colour. Blue, obviously. I cannot say.", "Write a haiku about the sea."])
def test_short_english(text: str) -> None:
    assert language(text) == "en"
