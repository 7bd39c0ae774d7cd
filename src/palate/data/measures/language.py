"""Which language a text is written in: by script, and among languages of the Latin script by their small words.

Made to count and to tell apart, not for linguists: a text of a few words, or in a language not listed, is "und". Code,
JSON, tool calls and addresses do not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from palate.data.measures.prose import prose
from palate.data.measures.words import tokens

# ruff: noqa: E501
_SMALL_WORDS: Mapping[str, str] = {
    "en": "the of and to in is you that it he was for on are as with his they at be this have from or had by but not what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into has more could go see no than been its who now did get",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei ich wir ihr kann wenn",
    "fr": "le la les de des et en un une du dans que est pour qui par sur pas plus au ce il sont avec ne se son sa ses aux mais ou où comme elle nous vous je tu cette ces été être avoir fait leur même si tout y on c d l n qu",
    "es": "el la los las de y en que un una por con no para es se del al lo como más pero sus le ya o este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante uno ni contra ese eso yo son fue ser está",
    "it": "il lo la gli le di che e un una per in non è con del della dei da al sono si come più ma anche nel alla dalla questo questa se ha ho hai o ci mi ti cui quando perché dove chi così tra fra essere stato suo sua",
    "pt": "o a os as de que e do da em um uma para com não por mais dos como mas foi ao ele das tem à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos são você",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als maar dan die bij nog uit naar heeft hebben ze wel of door wat kan worden deze over je ik hij zij wij dit was werd meer geen zo",
    "sv": "och i att det som en på är av för med den till inte om ett han men var jag sig från vi så kan när år under också efter eller nu sin där vid mot ska skulle kommer ut får finns vara hade alla andra mycket än här då sedan över bara in blir upp",
    "pl": "i w na z do nie się to że jest o jak a po co ale za od jego są przez tylko tak dla już było czy być może ich ze jej który która które tego ten ma przy bardzo był była oraz lub także jako więc",
    "tr": "ve bir bu da de için ile çok daha olarak gibi olan ne kadar sonra ama en o ben sen mi her var yok değil ki ya şey veya ise göre olduğu olur tarafından bunu neden nasıl",
    "id": "yang dan di untuk dengan pada ini dari dalam adalah tidak akan itu atau juga dapat ke oleh saya anda mereka kita bisa lebih karena seperti sebagai ada kami telah sudah jika bahwa tetapi",
    "ro": "și de la în a cu pe nu din că este o un mai să ce care pentru sunt se au fost dar sau prin dintre acest această după fi ca le lui ei ar fără foarte când",
    "vi": "và của là có trong cho không được với các một những để người này đã khi từ đó về như cũng vào ra nhiều bạn tôi thì sẽ phải hay lại đến",
}  # fmt: skip

STOP_WORDS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _SMALL_WORDS.items()}
"""The commonest small words by language code."""

# English questions are often of a few words, so these tell the language too; they are not counted as small words.
_ALSO_ENGLISH = frozenset(
    [
        "a",
        "an",
        "i",
        "my",
        "me",
        "am",
        "does",
        "being",
        "because",
        "cannot",
        "don't",
        "i'm",
        "it's",
        "very",
        "just",
        "any",
        "where",
        "why",
        "should",
        "might",
        "must",
        "us",
        "our",
        "also",
    ]
)

_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7af\u1100-\u11ff]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "bn": re.compile("[\u0980-\u09ff]"),
    "or": re.compile("[\u0b00-\u0b7f]"),
    "ta": re.compile("[\u0b80-\u0bff]"),
    "te": re.compile("[\u0c00-\u0c7f]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "he": re.compile("[\u0590-\u05ff]"),
    "ka": re.compile("[\u10a0-\u10ff]"),
    "hy": re.compile("[\u0530-\u058f]"),
}
_TELLING: Mapping[str, frozenset[str]] = {**STOP_WORDS, "en": STOP_WORDS["en"] | _ALSO_ENGLISH}
_LANGUAGES_OF: Mapping[str, tuple[str, ...]] = {
    word: tuple(name for name, words in _TELLING.items() if word in words)
    for words in _TELLING.values()
    for word in words
}
_KNOWN = frozenset(_LANGUAGES_OF)
_UKRAINIAN = re.compile("[іїєґ]")
_PERSIAN = re.compile("[پچژگ]")
_LOOKED_AT = 800
_WORDS = 150


def language(text: str, words: Sequence[str] | None = None) -> str:
    """The ISO 639-1 code of a text's language, `und` where it cannot be told, by its first 800 characters or 150 words.

    Args:
        text: to look at.
        words: its `tokens`, where they are at hand.
    """
    whole, text = text, prose(text)[:_LOOKED_AT]
    if not text.isascii() and _foreign(text) > 0.15 * len(text):
        found = _by_script(text)
        if found is not None:
            return found
    words = words[:_WORDS] if words is not None and text == whole[:_LOOKED_AT] else tokens(text)
    counts = Counter(words)
    votes: Counter[str] = Counter()
    for word in _KNOWN.intersection(counts):
        # A word that several languages have says less about each.
        shared = _LANGUAGES_OF[word]
        for name in shared:
            votes[name] += counts[word] * (12 // len(shared))
    if not votes:
        return "und"
    (best, score), (_, second) = [*votes.most_common(2), ("und", 0)][:2]
    # A word of one language alone has 12 votes: at least one such in ten words, and no other language level with it.
    return best if score >= max(12, 1.2 * len(words)) and score > second else "und"


def _foreign(text: str) -> int:
    """Characters beyond the Latin script."""
    return len(text) - len(text.encode("latin-1", "ignore"))


def _by_script(text: str) -> str | None:
    """The language that a script of its own gives away, if it is what much of the text is written in."""
    letters = sum(character.isalpha() for character in text)
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    if counts["ja"] and counts["ja"] + counts["zh"] > 0.3 * letters and counts["ja"] > 0.1 * counts["zh"]:
        return "ja"
    best = max(counts, key=lambda name: counts[name])
    # A Chinese character says as much as three letters do.
    if counts[best] * (3 if best in ("zh", "ja", "ko") else 1) <= 0.5 * letters:
        return None
    if best == "ru" and len(_UKRAINIAN.findall(text.lower())) > 0.02 * counts["ru"]:
        return "uk"
    if best == "ar" and len(_PERSIAN.findall(text)) > 0.02 * counts["ar"]:
        return "fa"
    return best
