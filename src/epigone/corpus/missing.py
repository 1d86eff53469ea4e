"""What was meant by the name of a text that is not there, or by a folder without texts: the errors say it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from epigone.corpus.readers.formats import PLAIN_SUFFIXES, SUFFIXES
from epigone.errors import TextNotFound, quote_command
from epigone.settings import TrainSettings, nearest_field

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/{1,3}(?=[^/])", re.I)
WEB = ("http", "https")
SITE = re.compile(r"(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|io|de|fr|uk|eu|ca|au|info|me|blog|dev)(?=/|$)", re.I)
ONLINE = re.compile(r"https?://(?:docs|drive)\.google\.com/", re.I)
SETTING = re.compile(r"(?:--?)?([a-z][a-z_-]*)=(.*)", re.I | re.S)
QUOTES = "'\"“”„‘’«»"
ALIKE, SHORT_ALIKE, SHORT = 0.6, 0.8, 4
"""How alike names have to be (0 to 1), and short ones, of which many are alike."""
CHECK = "Check the spelling and the folder you are in."
KINDS = {
    "pictures": (".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".svg", ".heic"),
    "sounds": (".mp3", ".wav", ".m4a", ".flac", ".ogg", ".opus"),
    "films": (".mp4", ".mov", ".mkv", ".avi", ".webm"),
    "Pages documents": (".pages",),
    "old Word documents": (".doc",),
    "Kindle books": (".mobi", ".azw", ".azw3", ".kfx"),
    "sheets": (".xlsx", ".xls", ".ods", ".numbers"),
    "slides": (".pptx", ".ppt", ".odp", ".key"),
    "program files": (".py", ".js", ".ts", ".c", ".h", ".cpp", ".java", ".go", ".rs", ".rb", ".css", ".ipynb"),
}
"""Kinds of files that are not read in a folder, by their endings."""
ADVICE = {
    "pictures": "A style is learned from text. Text recognition (OCR) gets it out of scans.",
    "sounds": "A style is learned from text. Have the speech written down first.",
    "films": "A style is learned from text; their subtitles have some.",
    "Pages documents": "In Pages: File > Export To > Word, and give those files.",
    "old Word documents": "Open them in Word or LibreOffice, and save them as .docx.",
    "Kindle books": "Convert them to EPUB with Calibre (without DRM), and give those files.",
    "sheets": "Save them as CSV, and give those files.",
    "slides": "Save their text as .txt, and give those files.",
}
RUN_PARTS = ("run.json", "metrics.jsonl")
"""What a run's folder has in it."""


def refuse_run(folder: Path, text: str) -> None:
    """Raise TextNotFound for the folder of a run, whose records are not what anybody wants to learn."""
    if all((folder / part).exists() for part in RUN_PARTS):
        write, resume = quote_command("epigone", "write", folder), quote_command("epigone", "resume", folder)
        raise TextNotFound(
            f"{text} is a run, not a text.", hint=f"To write with it: {write}. To train it further: {resume}"
        )


def refuse_online(text: str) -> None:
    """Raise TextNotFound for the address of a document that is edited online, or for the shortcut to one."""
    is_shortcut = text.lower().endswith(".gdoc")
    if is_shortcut or (ONLINE.match(text) and "export" not in text):
        what = "only a link to a document in Google Docs" if is_shortcut else "a page on which a document is edited"
        hint = "In Google Docs: File > Download > Microsoft Word (.docx), and give that file."
        raise TextNotFound(f"{text} is {what}.", hint=hint)


def explain_address(text: str) -> TextNotFound:
    """The error for an address that is not of the web."""
    scheme, rest = SCHEME.sub(r"\1\n", text, count=1).partition("\n")[::2]
    if scheme.lower() == "file":
        path = unquote("/" + rest.removeprefix("localhost/"))
        return TextNotFound(f"{text} is an address of a file on this computer.", hint=f"Give its path: {path}")
    nearest = difflib.get_close_matches(scheme.lower(), WEB, n=1, cutoff=0.7)
    meant = f"Did you mean {nearest[0]}://{rest}?" if nearest else "Download it yourself and give the file."
    return TextNotFound(
        f"{text} cannot be read: only http and https addresses can, and those of object stores (s3, gs, hf …).",
        hint=meant,
    )


def explain_missing(path: Path, text: str) -> TextNotFound:
    """The error for a name that leads nowhere."""
    if not text.strip():
        return TextNotFound("The name of the text is empty.", hint="Give a file, a folder or an address.")
    if path.is_symlink():
        return TextNotFound(f"{text} is a broken link.", hint="Name the text itself.")
    hint = _find_options(text) or _find_address(text) or _find_setting(text) or _find_list(text) or _find_path(text)
    if not hint and not path.parent.is_dir():
        return TextNotFound(f"There is no folder {path.parent}.", hint=suggest(path.parent, folders=True))
    return TextNotFound(f"There is no file {text}.", hint=hint or suggest(path))


def explain_several(texts: Sequence[str]) -> TextNotFound | None:
    """The error for words that are one name together, or that may be one text; None if they do not look like it."""
    missing = [bool(text) and not Path(text).expanduser().exists() for text in texts]
    for start in range(len(texts)):
        for end in range(start + 2, len(texts) + 1):
            joined = " ".join(texts[start:end])
            if Path(joined).expanduser().exists():
                hint = f'A name with spaces needs quotation marks: "{joined}"'
                return TextNotFound(f"There is no file {texts[start]}.", hint=hint)
    plain = [word for word, is_missing in zip(texts, missing, strict=True) if is_missing and not PurePath(word).suffix]
    if len(plain) > 1:
        hint = f'If these words are one name or one text, they need quotation marks: "{" ".join(plain)}"'
        return TextNotFound(f"There is no file {plain[0]}, and none {plain[1]}.", hint=hint)
    return None


def _find_options(text: str) -> str:
    """For "novel.docx --minutes 5", a text and options as one word."""
    name, dashes, options = text.partition(" --")
    words = f"{quote_command(name)} --{options}"
    return f"Options stand outside the quotation marks: {words}" if dashes and Path(name).expanduser().exists() else ""


def _find_address(text: str) -> str:
    """For "www.…", "gutenberg.org/…" and "http:/…"."""
    if text.lower().startswith("www.") or ("/" in text and SITE.match(text)):
        return f"Did you mean https://{text}?"
    broken = SCHEME.match(text)
    return f"Did you mean {broken[1].lower()}://{text[broken.end() :]}?" if broken and broken[1].lower() in WEB else ""


def _find_setting(text: str) -> str:
    """For "minutes=3"."""
    found = SETTING.fullmatch(text)
    field = nearest_field(found[1].lower().replace("-", "_"), TrainSettings) if found else []
    return f"Did you mean --{field[0].replace('_', '-')} {found[2]}?" if found and field else ""


def _find_list(text: str) -> str:
    """For "one.txt,two.txt" and "one.txt two.txt" in one pair of quotation marks."""
    for separator in (",", ";", " "):
        names = [name.strip() for name in text.split(separator) if name.strip()]
        if len(names) > 1 and all(Path(name).expanduser().exists() for name in names):
            return f"Several texts have spaces between them, each a word of its own: {quote_command(*names)}"
    return ""


def _find_path(text: str) -> str:
    """For a name in quotation marks, and for a path as Windows has it."""
    bare = text.strip().strip(QUOTES).strip()
    names = [bare]
    if "\\" in text:
        windows = PureWindowsPath(bare)
        drive = windows.drive.rstrip(":").lower()
        names += [f"/mnt/{drive}/" + "/".join(windows.parts[1:])] if drive.isalpha() else []  # in WSL
        names += [windows.as_posix(), windows.name]
    found = next((name for name in names if name and name != text and Path(name).expanduser().exists()), "")
    return f"Did you mean {found}?" if found else ""


def suggest(path: Path, *, folders: bool = False) -> str:
    """The most similar name in the same folder, of what can be a text."""
    try:
        others = [other for other in path.parent.iterdir() if not other.name.startswith(".")]
    except OSError:
        return CHECK
    known = [other.name for other in others if (other.is_dir() if folders else _may_be_text(other))]
    cutoff = ALIKE if len(path.stem) >= SHORT else SHORT_ALIKE
    lower = {name.casefold(): name for name in sorted(known, reverse=True)}
    stems = {PurePath(name).stem.casefold(): name for name in sorted(known, reverse=True)} if not path.suffix else {}
    given = path.name.casefold()
    longer = [name for name in lower if len(given) > 2 and name.startswith(given)]
    alike = longer[:1] or difflib.get_close_matches(given, [*lower, *stems], n=1, cutoff=cutoff)
    found = lower.get(alike[0]) or stems.get(alike[0]) if alike else None
    return f"Did you mean {path.with_name(found)}?" if found else CHECK


def _may_be_text(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or path.is_dir()


def _find_pattern(folder: str, names: Sequence[str]) -> str:
    """A pattern for the programs in a folder, to be given instead of it; empty if most of its files are none."""
    programs = Counter(PurePosixPath(name).suffix for name in names if _find_kind(name) == "program files")
    suffix = programs.most_common(1)[0][0] if programs.total() > len(names) / 2 else ""
    return f'"{folder.rstrip("/")}/**/*{suffix}"' if suffix else ""


def explain_folder(folder: str, names: Sequence[str]) -> TextNotFound:
    """The error for a folder that has files and no text."""
    if not names:
        hint = "Put texts into it, such as .txt, .docx or .epub, or name another folder."
        return TextNotFound(f"The folder {folder} has no text in it: it is empty.", hint=hint)
    counts = Counter(_find_kind(name) for name in names)
    shown = ", ".join(f"{kind or 'files without an ending'} ({count:,})" for kind, count in counts.most_common(4))
    advice = ADVICE.get(counts.most_common(1)[0][0])
    other = next((name for name in names if _find_kind(name) not in KINDS), "")
    if not advice:
        read = ", ".join((*sorted(filter(None, PLAIN_SUFFIXES)), ".md, .docx, .epub, .html and others"))
        pattern = _find_pattern(folder, names)
        example = f", for example {other}" if other else f", or all of them: {pattern}" if pattern else ""
        advice = f"Texts end in {read}. To read another file as text, name it itself{example}."
    return TextNotFound(f"The folder {folder} has no text in it, only {shown}.", hint=advice)


def _find_kind(name: str) -> str:
    ending = PurePosixPath(name).suffix.lower()
    known = next((kind for kind, endings in KINDS.items() if ending in endings), "")
    return known or (f"files ending in {ending}" if ending else "")
