"""Which language a text in Latin letters is in, where that is plain: by its small words, and by its letters."""

import re
from collections import Counter
from functools import lru_cache

# Frequent in one language, and of no or few others; as they are written, with their accents.
_SMALL_WORDS = {
    "english": "the and of is was are have has had it this that with for you my what when where who how do did i a to "
    "in on so at be we he she they not can me no yes your our am an as by if or but up go get all will just",
    "german": "der die das und ist nicht ich wir sie mit von ein eine einen auf für dem den wie was wo wer mein meine "
    "habe hat sind war zu im",
    "french": "le les des est une et je nous vous dans pour pas sur avec qui que où mon ma mes du au quel quelle c'est "
    "sont j'ai",
    "spanish": "el los las es una y yo mi en por para con no qué que dónde cuándo quién del se está son como mis su",
    "portuguese": "o os as é uma e eu meu minha em por para com não que onde quando quem do da no na está são um seu",
    "italian": "il gli è una e io mio mia in per con non che dove quando chi della del nel sono ho le di un questo",
    "dutch": "de het een is en ik niet van wij met voor op mijn wat waar wie hoe dat zijn was heb heeft naar",
    "swedish": "och det är jag inte att en ett på som med för min mitt vad var vem hur har vi till av den",
    "danish": "og det er jeg ikke at en et på som med for min mit hvad hvor hvem har vi til af den",
    "norwegian": "og det er jeg ikke at en et på som med for min mitt hva hvor hvem har vi til av den",
    "finnish": "ja on ei minä se että olen ovat mitä missä kuka oli mutta kun myös meidän minun hän tämä",
    "turkish": "ve bir bu için ile ne nerede kim değil ben çok benim var mı mi da de olarak gibi daha",
    "polish": "i w na nie jest się że z do to ja mój moja co gdzie kto jak jestem są mam po",
    "czech": "a v na není je se že s do to já můj moje co kde kdo jak jsem jsou mám po",
    "hungarian": "a az és egy nem van hogy én mi hol ki mit volt vagyok de meg ez is",
    "romanian": "și este nu o un în cu pe la eu ce unde cine că mea meu sunt din pentru",
    "indonesian": "dan yang di ini itu saya tidak dengan untuk dari apa mana siapa adalah ada ke pada kami",
}
_OWN_LETTERS = {
    "german": "ßäöü", "spanish": "ñ¿¡", "portuguese": "ãõ", "french": "èêœëùç", "turkish": "ğış", "polish": "łąęśżźćń",
    "czech": "řěůč", "hungarian": "őű", "romanian": "țșă", "swedish": "å", "danish": "øæ", "italian": "ìò",
}  # fmt: skip
_OF_WORD: dict[str, list[str]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _word in set(_words.split()):
        _OF_WORD.setdefault(_word, []).append(_language)
_WORD = re.compile(r"[^\W\d_]+")
# A language shows in its first words.
_ENOUGH = 400
_PLAIN = 2


def guess(text: str) -> str | None:
    """Return the language that the small words and letters of a text are of, if they are plainly one's."""
    return _guess(text[:_ENOUGH].lower())


@lru_cache(maxsize=256)
def _guess(text: str) -> str | None:
    found = Counter(language for word in _WORD.findall(text) for language in _OF_WORD.get(word, ()))
    if not text.isascii():
        for language, letters in _OWN_LETTERS.items():
            found[language] += 2 * any(letter in text for letter in letters)
    (best, most), *others = found.most_common(2) or [("", 0)]
    return best if most >= _PLAIN and (not others or most > others[0][1]) else None
