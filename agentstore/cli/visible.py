"""Make stored text safe to print: no character moves the cursor, changes colors or is invisible.

Stored text was written by others. Invisible characters can hide instructions to a model, or make two ids look alike.
"""

import json
import re
import shlex

_INVISIBLE = (
    r"\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_EMOJI = (
    r"\xa9\xae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934-\u2bff\u3030\u303d\u3297\u3299"
    r"\U0001f000-\U0001faff"
)
_JOINED_SCRIPTS = r"\u0620-\u0dff"  # Arabic to Sinhala
_IDEOGRAPHS = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TAGS = {name: "".join(chr(0xE0000 + ord(letter)) for letter in name) for name in ("gbeng", "gbsct", "gbwls")}
# What is visible in its place: joined emoji, emoji and ideographs with one variation selector, letters of scripts that
# need joiners, and the flags of England, Scotland and Wales.
_VISIBLE_THERE = (
    rf"(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])",
    rf"(?<=[{_JOINED_SCRIPTS}])[\u200c\u200d](?=[{_JOINED_SCRIPTS}])",
    rf"(?<=[{_EMOJI}#*0-9])[\ufe0e\ufe0f]",
    rf"(?<=[{_IDEOGRAPHS}])[\ufe00-\ufe02\U000e0100-\U000e01ef]",
    rf"(?<=\U0001f3f4)(?:{'|'.join(_TAGS.values())})\U000e007f",
)
_HIDDEN = re.compile(rf"{'|'.join(_VISIBLE_THERE)}|([{_INVISIBLE}])")
_ESCAPED = re.compile(f"[{_INVISIBLE}]")
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_JOINERS = re.compile(r"[\u200c\u200d\U000e0020-\U000e007f]")
_BLANK = "\u2800"  # of Braille, which counts as printable
_SHORT_ESCAPES = {"\n": r"\n", "\t": r"\t", "\\": r"\\", "'": r"\'"}


def printable(value: object) -> str:
    """Return a text with its control and invisible characters replaced by visible symbols; newlines and tabs stay.

    A control character becomes its picture, such as ``␛``, and an invisible one its number, such as ``<U+200B>``.
    Characters that join emoji or letters stay, where they do.
    """
    text = str(value).translate(_CONTROLS)
    return text if text.isascii() else _HIDDEN.sub(lambda found: _number(found[1]) if found[1] else found[0], text)


def _number(character: str) -> str:
    return f"<U+{ord(character):04X}>"


def one_line(value: object) -> str:
    """Return a text as one printable line, with each run of white space replaced by a space."""
    return " ".join(printable(value).split())


def format_id(id: str) -> str:
    r"""Return an id unchanged, or quoted for a shell if it could be mistaken for another id.

    ``$'a\u200bb'`` is read by bash, ksh and zsh.
    """
    if id and id == one_line(id) and _JOINERS.sub("", id).isprintable() and _BLANK not in id:
        return id
    if all(character == " " or _is_plain(character) for character in id):
        return shlex.quote(id)
    return f"$'{''.join(map(_escaped, id))}'"


def _is_plain(character: str) -> bool:
    is_visible = character.isprintable() and not character.isspace() and character != _BLANK
    return is_visible and not _ESCAPED.match(character)


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character == " " or _is_plain(character):
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_json(text: str) -> str:
    """Return JSON text with its invisible characters as JSON's escapes."""
    return text if text.isascii() else _ESCAPED.sub(lambda found: json.dumps(found[0])[1:-1], text)
