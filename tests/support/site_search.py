"""A hook of MkDocs: the search of a page finds pages in its own language.

The site has one index of the pages of all languages, in which a reader of one finds those of the others first. With
this hook, English pages have an index of their own, and Chinese pages one that has the English page where there is no
translation.
"""

import json
import re
from pathlib import Path
from typing import Any

_INDEX = "search_index.json"
_CHINESE = "search_index.zh.json"
_BUNDLE = re.compile(r'<script src="(\.\./)+assets/javascripts/bundle\.')
# The theme requests the index by its name, relative to the root of the site, once its own script is loaded.
_SCRIPT = f"""<script>
(open => {{ XMLHttpRequest.prototype.open = function (method, url, ...rest) {{
  return open.call(this, method, String(url).replace(/search_index\\.json$/, "{_CHINESE}"), ...rest)
}} }})(XMLHttpRequest.prototype.open)
</script>
"""


def split(index: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the index of English pages, and that of Chinese pages, of an index of both."""
    english = [each for each in index["docs"] if not each["location"].startswith("zh/")]
    chinese = [each for each in index["docs"] if each["location"].startswith("zh/")]
    translated = {_page(each["location"]) for each in chinese}
    # A page without a translation is in the Chinese site too.
    there = [{**each, "location": f"zh/{each['location']}"} for each in english]
    chinese += [each for each in there if _page(each["location"]) not in translated]
    config = index["config"]
    return {"config": {**config, "lang": ["en"]}, "docs": english}, {"config": config, "docs": chinese}


def _page(location: str) -> str:
    return location.partition("#")[0]


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Return the HTML of a page, which loads the Chinese index if the page is below ``zh/``.

    Raises:
        ValueError: the page does not load the script of the theme.
    """
    if not page.file.dest_uri.startswith("zh/"):
        return output
    bundle = _BUNDLE.search(output)
    if bundle is None:
        raise ValueError(f"{page.file.dest_uri} does not load the script of the theme")
    return f"{output[: bundle.start()]}{_SCRIPT}{output[bundle.start() :]}"


def on_post_build(config: Any) -> None:
    """Write the index of each language."""
    folder = Path(config.site_dir, "search")
    english, chinese = split(json.loads((folder / _INDEX).read_text(encoding="utf-8")))
    (folder / _INDEX).write_text(json.dumps(english, ensure_ascii=False), encoding="utf-8")
    (folder / _CHINESE).write_text(json.dumps(chinese, ensure_ascii=False), encoding="utf-8")


# After the plugin of languages, which writes the index of all pages at -100.
setattr(on_post_build, "mkdocs_priority", -200)  # noqa: B010  # a function has no such attribute for type checkers
