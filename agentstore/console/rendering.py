"""Turn stored text into HTML that cannot do anything: Markdown, JSON and code, each bounded in size.

Stored text is written by strangers. Raw HTML in Markdown is shown as text, images become links, and what the Markdown
parser produces passes an allow-list before it is marked as safe.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import nh3
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MOST_TEXT = 20_000
"""How many characters of a text a page shows."""
MOST_MARKDOWN = 10_000
"""How many characters of a text are rendered as Markdown; longer ones are shown as they are."""
_MOST_CODE, _MOST_JSON = 4_000, 20_000
_MOST_LEVELS = 30
_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "em", "strong", "s", "code", "pre", "span", "blockquote", "ul", "ol"),
    *("li", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "span": {"class"}, "ol": {"start"}}
# A relative link would lead to a page of the console.
_LINK = re.compile("(?:https?://|mailto:)", re.IGNORECASE)
_INDENTATION = re.compile(r"\n *")
# Those whose lexers were measured with hostile text. Others, such as those of C and Java, need minutes for a few
# thousand line breaks, and nothing else in the process runs meanwhile.
_LANGUAGES = {
    *(
        "bash",
        "css",
        "diff",
        "docker",
        "dockerfile",
        "go",
        "html",
        "javascript",
        "js",
        "json",
        "php",
        "postgresql",
        "py",
    ),
    *(
        "pycon",
        "python",
        "python3",
        "rb",
        "rs",
        "ruby",
        "rust",
        "sh",
        "shell",
        "sql",
        "toml",
        "ts",
        "typescript",
        "xml",
    ),
    *("yaml", "zsh"),
}
_LONG_SPACE = re.compile(r"\s{101}")
_PLAIN_NAME = re.compile("[a-zA-Z0-9_+.#-]{1,40}")


def printable(text: str) -> str:
    """Return a text that can be encoded in UTF-8 and has no NUL: lone surrogates and NULs become visible escapes."""
    if "\0" in text:
        text = text.replace("\0", "␀")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def visible(text: str) -> str:
    """Return an id or a name with invisible characters as ``<U+200B>``, so that equal-looking ids can be told apart."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"<U+{ord(each):04X}>" if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co") else each
        for each in text
    )


def shorten(text: str, length: int = MOST_TEXT) -> tuple[str, int]:
    """Return the beginning of a text, and how many characters are left out."""
    return (text, 0) if len(text) <= length else (text[:length], len(text) - length)


def render_text(text: str) -> Markup:
    """Return a text of any length as it is, with its line breaks."""
    return Markup('<div class="plain" dir="auto">{}</div>').format(printable(text))


def render_markdown(text: str) -> Markup:
    """Return Markdown as HTML; text that is longer than :data:`MOST_MARKDOWN` is returned as it is."""
    if len(text) > MOST_MARKDOWN:
        return render_text(text)
    parser = _parser()
    tokens = parser.parse(printable(text))
    if any(_leaves_text_out(token) for token in tokens):
        return render_text(text)
    html = parser.renderer.render(tokens, parser.options, {})
    cleaned = nh3.clean(
        html,
        tags=_TAGS,
        clean_content_tags={"script", "style"},
        attributes=_ATTRIBUTES,
        attribute_filter=_keep_attribute,
        link_rel="noopener noreferrer nofollow",
    )
    # What passed the allow-list has no scripts, styles or handlers.
    return Markup('<div class="markdown" dir="auto">{}</div>').format(Markup(cleaned))  # noqa: S704


def _leaves_text_out(token: "Token") -> bool:
    """Return whether the parser stopped at a depth, or text stands where a block of code has its language."""
    info = token.info.strip() if token.type == "fence" else ""
    return token.level >= _MOST_LEVELS - 1 or (info != "" and not _PLAIN_NAME.fullmatch(info))


def _keep_attribute(tag: str, name: str, value: str) -> str | None:
    return value if name != "href" or _LINK.match(value) else None


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    # Nesting is bounded, as hostile text may have thousands of levels.
    parser = MarkdownIt("commonmark", {"html": False, "highlight": _highlight, "maxNesting": _MOST_LEVELS})
    parser.enable(["table", "strikethrough"])
    # A definition of a link would be left out of the page.
    parser.disable("reference")
    parser.add_render_rule("image", _image_as_link)
    parser.add_render_rule("heading_open", _heading)
    parser.add_render_rule("heading_close", _heading)
    return parser


def _image_as_link(_: Any, tokens: Sequence["Token"], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    label = token.content or "image"
    return str(Markup('<a href="{}">[{}]</a>').format(token.attrs.get("src", ""), label))


def _heading(_: Any, tokens: Sequence["Token"], index: int, options: Any, env: Any) -> str:
    """Return a tag two levels lower: the page has headings of its own."""
    token = tokens[index]
    level = min(6, int(token.tag[1]) + 2)
    return f"<{'/' if token.nesting < 0 else ''}h{level}>"


def _highlight(code: str, language: str, _: str) -> str:
    return str(highlight(code, language))


def highlight(code: str, language: str) -> Markup:
    """Return code with the classes of Pygments; languages that are not listed, and long code, as it is."""
    code = printable(code)
    language = language.lower()
    if language not in _LANGUAGES or len(code) > (_MOST_JSON if language == "json" else _MOST_CODE):
        return escape(code)
    if language != "json" and _LONG_SPACE.search(code):
        return escape(code)
    from pygments import highlight as pygmentize
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code)
    return Markup(pygmentize(code, lexer, HtmlFormatter(nowrap=True)))  # noqa: S704 - Pygments escapes the code


def format_json(value: Any, length: int) -> tuple[str, int]:
    """Return the beginning of a JSON value on several lines, and how many characters but indentation are left out.

    Only the beginning is written: the indentation of a nested list may be a hundred times as long as the list.
    """
    parts: list[str] = []
    size = 0
    for part in json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(value):
        parts.append(part)
        size += len(part)
        if size > length:
            break
    text, rest = shorten("".join(parts), length)
    if rest:
        written = len(json.dumps(value, ensure_ascii=False, separators=(",", ": ")))
        rest = max(1, written - len(_INDENTATION.sub("", text)))
    return text, rest


def render_json(value: Any, length: int = MOST_TEXT) -> tuple[Markup, int]:
    """Return the beginning of a JSON value as highlighted code, and how many characters are left out."""
    text, rest = format_json(value, length)
    return Markup('<pre class="code" dir="ltr" tabindex="0"><code>{}</code></pre>').format(
        highlight(text, "json")
    ), rest


def render_argument(value: Any, length: int) -> tuple[Markup, int]:
    """Return arguments or an output of a tool: as JSON if it is, or is a text that is, a JSON object or a list."""
    if isinstance(value, str) and value[:1] in ("{", "[") and len(value) <= length:
        with suppress(ValueError, RecursionError):
            return render_json(json.loads(value), length)
    if isinstance(value, str):
        text, rest = shorten(value, length)
        return Markup('<pre class="code" dir="auto" tabindex="0"><code>{}</code></pre>').format(printable(text)), rest
    return render_json(value, length)


def summarize(value: Any, length: int = 120) -> str:
    """Return a JSON value in one line, shortened."""
    if isinstance(value, Mapping) and not value:
        return ""
    # A large value is not written completely to show its beginning.
    text = value[: length + 1] if isinstance(value, str) else _beginning(value, length + 1)
    text = " ".join(printable(text).split())
    return text if len(text) <= length else f"{text[:length]}…"


def _beginning(value: Any, length: int) -> str:
    parts: list[str] = []
    size = 0
    for part in json.JSONEncoder(ensure_ascii=False).iterencode(_shortened(value, length)):
        parts.append(part)
        size += len(part)
        if size > length:
            break
    return "".join(parts)


def _shortened(value: Any, length: int) -> Any:
    """Return a value with its long texts shortened, two levels deep."""
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, Mapping):
        return {key: each[:length] if isinstance(each, str) else each for key, each in list(value.items())[:length]}
    return value[:length] if isinstance(value, list) else value


def is_web_link(url: str) -> bool:
    """Return whether a URL of a stored message may become a link."""
    return url[:8].lower().startswith(("http://", "https://")) and url.isprintable()


def style_sheet() -> str:
    """Return the rules for highlighted code, for light and dark pages."""
    from pygments.formatters import HtmlFormatter

    def rules(selector: str, style: str) -> list[str]:
        lines = HtmlFormatter(style=style).get_style_defs(selector).splitlines()
        # The background of the page is its own, and so is that of what the lexer does not know.
        return [line for line in lines if line.startswith(f"{selector} .") and " .err " not in line]

    # Comments of this style have too little contrast on a gray background.
    light = [line.replace("#3D7B7B", "#316363") for line in rules("code", "default")]
    dark = [f"[data-theme=dark] {line}" for line in rules("code", "github-dark")]
    automatic = [f":root:not([data-theme=light]) {line}" for line in rules("code", "github-dark")]
    return "\n".join([*light, *dark, "@media (prefers-color-scheme: dark) {", *automatic, "}"])
