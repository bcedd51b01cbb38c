"""Identify files by their first bytes, for messages about one of an unexpected kind."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Groups of files, by what can be done with them.
SOUND, PACKED, TABLE, OTHER = "sound", "packed", "table", "other"

#: Formats that libsndfile reads; if it fails on one, the file is damaged.
RECORDING: Final = "a recording"
MPEG_4: Final = "MPEG-4 (m4a, mp4, mov)"
WINDOWS_MEDIA: Final = "Windows Media (wma, asf)"
TAR: Final = "a tar archive"


class Signature(NamedTuple):
    """How files of one kind begin.

    Attributes:
        sign: the bytes.
        place: their offset in the file.
        group: one of the constants above.
        name: with its article, or the name of an audio format.
    """

    sign: bytes
    place: int
    group: str
    name: str


#: The first match counts.
_SIGNATURES: Final = (
    Signature(b"ftyp", 4, SOUND, MPEG_4),
    Signature(b"\x1a\x45\xdf\xa3", 0, SOUND, "Matroska or WebM"),
    Signature(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, SOUND, WINDOWS_MEDIA),
    Signature(b"#!AMR", 0, SOUND, "AMR"),
    Signature(b"wvpk", 0, SOUND, "WavPack"),
    Signature(b"TTA1", 0, SOUND, "True Audio"),
    Signature(b"MAC ", 0, SOUND, "Monkey's Audio"),
    Signature(b"FLV\x01", 0, SOUND, "Flash video"),
    Signature(b"AVI ", 8, SOUND, "AVI video"),
    Signature(b"\x0b\x77", 0, SOUND, "AC-3"),
    Signature(b"ajkg", 0, SOUND, "Shorten"),
    Signature(b"\x00\x00\x01\xba", 0, SOUND, "MPEG video"),
    Signature(b"DSD ", 0, SOUND, "DSD"),
    Signature(b"ADIF", 0, SOUND, "AAC"),
    *(
        Signature(sign, 0, SOUND, RECORDING)
        for sign in (b"RIFF", b"RF64", b"fLaC", b"ID3", b"FORM", b"caff", b".snd")
    ),
    Signature(b"PK\x03\x04", 0, PACKED, "a zip archive"),
    Signature(b"\x1f\x8b", 0, PACKED, "compressed with gzip"),
    Signature(b"BZh", 0, PACKED, "compressed with bzip2"),
    Signature(b"\xfd7zXZ\x00", 0, PACKED, "compressed with xz"),
    Signature(b"\x28\xb5\x2f\xfd", 0, PACKED, "compressed with zstd"),
    Signature(b"7z\xbc\xaf\x27\x1c", 0, PACKED, "a 7z archive"),
    Signature(b"Rar!", 0, PACKED, "a RAR archive"),
    Signature(b"ustar", 257, PACKED, TAR),
    Signature(b"PAR1", 0, TABLE, "a Parquet file"),
    Signature(b"ARROW1", 0, TABLE, "an Arrow file"),
    Signature(
        b"version https://git-lfs",
        0,
        OTHER,
        "a Git LFS pointer (`git lfs pull` gets the file itself)",
    ),
    Signature(b"\x93NUMPY", 0, OTHER, "a NumPy array"),
    Signature(b"\x89HDF\r\n\x1a\n", 0, OTHER, "an HDF5 file, as Keras writes them"),
    Signature(b"GGUF", 0, OTHER, "a GGUF file"),
    Signature(b"%PDF", 0, OTHER, "a PDF"),
    *(Signature(sign, 0, OTHER, "an image") for sign in (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")),
    Signature(b"MThd", 0, OTHER, "a MIDI file"),
    Signature(b"\x7fELF", 0, OTHER, "a program"),
)


def signature_of(head: bytes) -> Signature | None:
    """What a file's first bytes (512 if it has as many) say it is, if anything."""
    for known in _SIGNATURES:
        if head.startswith(known.sign, known.place):
            return known
    if head[:4] == b"OggS":
        # libsndfile reads these two.
        readable = b"OpusHead" in head[:64] or b"\x01vorbis" in head[:64]
        name = RECORDING if readable else "Ogg with an encoding that libsndfile does not read"
        return Signature(b"OggS", 0, SOUND, name)
    # Eleven one bits: MPEG audio, or AAC, which has two zeros in place of MPEG audio's layer.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] != 0xFF:
        return Signature(head[:2], 0, SOUND, "AAC" if head[1] & 0xF6 == 0xF0 else RECORDING)
    return None


def text_kind(head: bytes) -> str | None:
    """What kind of text a file's first bytes are: an HTML page, JSON, ...; None if they are not
    text, or empty.
    """
    # The last character may be cut off.
    text = head.decode("utf-8-sig", "ignore")
    if len(text.encode()) < len(head) - 6 or any(c < " " and c not in "\t\n\r\f\x1b" for c in text):
        return None
    start = text.lstrip()[:100].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page"
    if start.startswith("<"):
        return "XML or HTML text"
    if start.startswith(("{", "[")):
        return "JSON text"
    return "text" if head else None
