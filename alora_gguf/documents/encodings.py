"""Bytes to text."""

import codecs
import re

_MARKS = (  # the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python's names and those of people: what is guessed among, and the first of those that fit equally well is taken
_GUESSED = {
    "cp1252": "Windows-1252", "cp1250": "Windows-1250", "cp1251": "Windows-1251", "cp932": "Shift-JIS", "euc_jp": "EUC-JP",
    "iso2022_jp": "ISO-2022-JP", "gb18030": "GB18030", "big5": "Big5", "cp949": "EUC-KR", "koi8_r": "KOI8-R", "cp1253": "Windows-1253",
    "cp1254": "Windows-1254", "cp1255": "Windows-1255", "cp1256": "Windows-1256", "cp1257": "Windows-1257", "cp1258": "Windows-1258",
    "iso8859_2": "ISO-8859-2", "iso8859_5": "ISO-8859-5", "iso8859_7": "ISO-8859-7", "iso8859_9": "ISO-8859-9", "iso8859_15": "ISO-8859-15",
    "cp866": "IBM866", "cp874": "Windows-874", "mac_roman": "Mac Roman", "cp850": "IBM850",
}  # fmt: skip
_WEST = "àáâãäåæçèéêëìíîïñòóôöøùúûüßœÀÁÂÄÅÆÇÈÉÊÍÑÓÔÖØÚÜŒ"
_EAST = "áâäąăćčďđéęěíîľĺłňńóôöőŕřśšşťţúůüűýźžżÁÄĄĆČĎÉĚĘÍŁŇŃÓÖŐŘŚŠŤÚŮÜŰÝŹŽŻß"
_HAN, _SIGNS = "\u3001-\u3011\u4e00-\u9fff\uff01-\uff5e", "€£§°«»„“”‘’–—…•·¿¡×½²"
_LATIN = {  # letters that are frequent in texts of each
    "cp1252": _WEST, "cp1250": _EAST, "iso8859_2": _EAST, "cp1254": "âçğıîöşüûÇĞİÖŞÜ", "cp1257": "āąčēėęģīįķļņöōõšūųüžäĀČŠŪŽÕÄÖÜ", "cp1258": "àáâăđèéêìíòóôơùúưý",
    "iso8859_9": "âçğıîöşüûÇĞİÖŞÜ", "iso8859_15": _WEST, "mac_roman": _WEST, "cp850": _WEST,
}  # fmt: skip
_FREQUENT = {
    **_LATIN, "cp932": f"{_HAN}\u3041-\u30fe", "euc_jp": f"{_HAN}\u3041-\u30fe", "iso2022_jp": f"{_HAN}\u3041-\u30fe", "gb18030": _HAN, "big5": _HAN,
    "cp949": "\uac00-\ud7a3\u3001-\u3011", "cp1251": "а-яА-ЯёЁіїєў№", "koi8_r": "а-яА-ЯёЁ", "cp866": "а-яА-ЯёЁ", "iso8859_5": "а-яА-ЯёЁ№",
    "cp1253": "\u0386-\u03ce", "iso8859_7": "\u0386-\u03ce", "cp1255": "\u05d0-\u05ea", "cp1256": "\u060c-\u0652", "cp874": "\u0e01-\u0e5b",
}  # fmt: skip
_ABROAD = re.compile("[^\x00-\x7f]")
_LOW = re.compile(rb"[\x80-\x9f]")
_HIGH, _ALONE = re.compile(rb"[\x80-\xff]"), re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
_WIDER = {
    "iso8859_1": "cp1252",
    "ascii": "cp1252",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "iso8859_9": "cp1254",
}
# where in a unit zeros stand seldom, often and (but for rare characters) always
_WIDE = ("utf-32-le", 0, 1, (2, 3)), ("utf-32-be", 3, 2, (0, 1)), ("utf-16-le", 0, 1, ()), ("utf-16-be", 1, 0, ())
_CHARSET = re.compile(rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml\s[^>]*?encoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # that no text has; ISO-2022-JP has escapes


def decoded(data: bytes) -> str | None:
    """UTF-8, or another UTF that says so by its first bytes; None: it is neither, or binary data."""
    if b"\x1b$" in data:  # ISO-2022-JP, whose bytes are all ASCII
        return None
    return strictly(data, next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8"))


def strictly(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def declared(data: bytes) -> str | None:
    """What HTML says that it is in, as Python's name; None: it says nothing, or nothing that is known."""
    if not (found := _CHARSET.search(data[:4096])):
        return None
    try:
        name = codecs.lookup((found[1] or found[2]).decode("ascii")).name.replace("-", "_")
    except LookupError:
        return None
    name = _WIDER.get(name, name)
    return name if name in _GUESSED or name in ("utf_8", "utf_16", "utf_32") else None


def guessed(data: bytes) -> tuple[str, str] | None:
    """The text, and which encoding was taken; None: no text. Raises ModuleNotFoundError."""
    return _wide(data) or _single(data)


def _wide(data: bytes) -> tuple[str, str] | None:
    """UTF-16 or UTF-32 without a mark: zeros stand at the same place of many units, as in a blank or a line's end of any script."""
    for name, seldom, often, always in _WIDE:
        width = 2 + len(always)
        n = len(data) // width
        if not n or len(data) % width:
            continue
        zeros = [data[i::width].count(0) / n for i in range(width)]
        if zeros[often] > max(0.01, 4 * zeros[seldom]) and all(zeros[i] > 0.9 for i in always):
            text = strictly(data, name)
            if text is not None and not _CONTROLS.search(text):
                return text, name.upper()
    return None


def _single(data: bytes) -> tuple[str, str] | None:
    if _CONTROLS.search(data.decode("latin-1")):
        return None
    from charset_normalizer import from_bytes

    # letters with accents stand alone among others; those of other scripts stand together, but for Shift-JIS, whose first bytes are low
    n_high, n_alone, n_low = (len(pattern.findall(data)) for pattern in (_HIGH, _ALONE, _LOW))
    if n_alone > (0.9 if n_low > 0.2 * n_high else 0.5) * n_high:
        fits = set(_LATIN)
    else:
        matches = list(from_bytes(data, cp_isolation=list(_GUESSED), enable_fallback=False))
        good = [m for m in matches if (m.chaos, m.coherence) == (matches[0].chaos, matches[0].coherence)]
        fits = {name for match in good for name in match.could_be_from_charset}
    texts = {name: text for name in _GUESSED if name in (fits or _LATIN) and (text := strictly(data, name)) is not None}
    best = max(texts, key=lambda name: len(re.findall(f"[{_FREQUENT[name]}{_SIGNS}]", texts[name])) / (len(_ABROAD.findall(texts[name])) or 1))
    return texts[best], _GUESSED[best]
