"""Guess the language of a text in Latin letters, by its stop words and special letters."""

import re
from collections import Counter
from functools import lru_cache

# Words that are frequent in one language and rare in most others, with their accents.
_STOP_WORDS = {
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
_SPECIAL_LETTERS = {
    "german": "ßäöü", "spanish": "ñ¿¡", "portuguese": "ãõ", "french": "èêœëùç", "turkish": "ğış", "polish": "łąęśżźćń",
    "czech": "řěůč", "hungarian": "őű", "romanian": "țșă", "swedish": "å", "danish": "øæ", "italian": "ìò",
}  # fmt: skip
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _STOP_WORDS.items():
    for _word in set(_words.split()):
        _LANGUAGES_OF.setdefault(_word, []).append(_language)
_WORD = re.compile(r"[^\W\d_]+")
# Only the first characters are read, which are enough to guess the language.
_CHARACTERS = 400
_MIN_SCORE = 2


def guess(text: str) -> str | None:
    """Return the language of a text if its stop words and letters are clearly those of one language, else None."""
    return _guess(text[:_CHARACTERS].lower())


@lru_cache(maxsize=256)
def _guess(text: str) -> str | None:
    scores = Counter(language for word in _WORD.findall(text) for language in _LANGUAGES_OF.get(word, ()))
    if not text.isascii():
        for language, letters in _SPECIAL_LETTERS.items():
            scores[language] += 2 * any(letter in text for letter in letters)
    (best, score), *others = scores.most_common(2) or [("", 0)]
    return best if score >= _MIN_SCORE and (not others or score > others[0][1]) else None
