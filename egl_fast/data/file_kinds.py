"""What a file is, by its first bytes: for errors, where it cannot be decoded."""

from __future__ import annotations

_MPEG_4 = "MPEG-4 (m4a, mp4, mov)"
_WINDOWS_MEDIA = "Windows Media (wma, asf)"

#: Of two such files in one, FFmpeg reads the first.
ONE_IS_READ = (_MPEG_4, _WINDOWS_MEDIA)

#: First bytes, how many bytes into the file, and what begins like that. Earlier lines win.
_SIGNS = (
    (b"ftyp", 4, _MPEG_4),
    (b"\x1a\x45\xdf\xa3", 0, "Matroska or WebM"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, _WINDOWS_MEDIA),
    (b"OggS", 0, "Ogg, of an encoding that libsndfile does not read"),
    (b"#!AMR", 0, "AMR"),
    (b"wvpk", 0, "WavPack"),
    (b"TTA1", 0, "True Audio"),
    (b"MAC ", 0, "Monkey's Audio"),
    (b"FLV\x01", 0, "Flash video"),
    (b"AVI ", 8, "AVI video"),
    (b"\x0b\x77", 0, "AC-3"),
    (b"ajkg", 0, "Shorten"),
    (b"\x00\x00\x01\xba", 0, "MPEG video"),
    (b"DSD ", 0, "DSD"),
    (b"ADIF", 0, "AAC"),
)

#: The same of what holds no sound, and what to do.
_NO_SOUND = (
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the recording; run git lfs pull"),
    (b"PK\x03\x04", 0, "a zip archive; unpack it"),
    (b"\x1f\x8b", 0, "compressed by gzip; unpack it"),
    (b"BZh", 0, "compressed by bzip2; unpack it"),
    (b"\xfd7zXZ\x00", 0, "compressed by xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", 0, "compressed by zstd; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive; unpack it"),
    (b"Rar!", 0, "a rar archive; unpack it"),
    (b"ustar", 257, "a tar archive; unpack it"),
    (b"%PDF", 0, "a PDF, not audio"),
    (b"\x89PNG", 0, "a picture, not audio"),
    (b"\xff\xd8\xff", 0, "a picture, not audio"),
    (b"GIF8", 0, "a picture, not audio"),
    (b"MThd", 0, "a MIDI file, which holds notes and no sound"),
    (b"\x7fELF", 0, "a program, not audio"),
    (b"\x93NUMPY", 0, "a NumPy array; write it as WAV"),
)


def without_sound(head: bytes) -> str | None:
    """What a file is that is certainly no audio, and what to do about it; None: it may be audio.

    Args:
        head: its first bytes, a few hundred or more; none if it is empty.
    """
    if not head:
        return "empty; fetch it again"
    for sign, place, kind in _NO_SOUND:
        if head[place : place + len(sign)] == sign:
            return kind
    if not head.strip(b"\0"):
        return "nothing but zeros at its beginning; fetch it again"
    return _text(head)


def _text(head: bytes) -> str | None:
    # The last character may be cut in two.
    text = head.decode("utf-8-sig", "ignore")
    if len(text.encode()) < len(head) - 6 or any(c < " " and c not in "\t\n\r\f\x1b" for c in text):
        return None
    start = text.lstrip()[:100].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page, not audio; see what its address answers, and fetch it again"
    if start.startswith("<"):
        return "XML or HTML text, not audio; see what its address answers, and fetch it again"
    if start.startswith(("{", "[")):
        return "JSON text, not audio; see what its address answers, and fetch it again"
    return "text, not audio"


def file_kind(head: bytes) -> str | None:
    """The format of a file that may hold sound, by name; None where nothing tells.

    Args:
        head: its first bytes.
    """
    if head[:4] == b"OggS" and (b"OpusHead" in head[:64] or b"\x01vorbis" in head[:64]):
        return None  # libsndfile reads these; there is something else
    for sign, place, kind in _SIGNS:
        if head[place : place + len(sign)] == sign:
            return kind
    # Twelve bits of ones, then two zeros where MP3 has its layer.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return None
