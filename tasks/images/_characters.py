"""Which characters may become a class, judged by what Unicode says of them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["is_candidate", "is_numeric", "is_restyled"]

# What shows a digit without being one in Unicode's eyes (cards, dice, resin codes, ∛, ⨧), what counts
# (dominoes, mahjong tiles), and letters made from digits or drawn like them: tone letters, ezh, yogh, ze (3),
# che (4), ou (8).
NUMERIC_NAMES = re.compile(
    r"DIGIT|NUMBER|NUMERAL|NUMERIC|FRACTION|TYPE-\d|DECIMAL EXPONENT|KEYCAP|COUNTING ROD"
    r"|CUBE ROOT|FOURTH ROOT|PLAYING CARD|DOMINO|MAHJONG|DIE FACE|CLOCK FACE|O.CLOCK"
    r"|PERCENT|PER CENT|PER MILLE|PER TEN THOUSAND|TONE (TWO|FIVE|SIX)|LETTER TWO"
    r"|SCRIPT (ZERO|ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE)|\b(EZH|YOGH|ZE|CHE|OU)\b"
)
# Shapes of digits that the similarity of `_lookalikes` misses in some font, found by reading a contact sheet
# of the classes that come nearest. Variants of them (mathematical, superscript, ...) go too.
DIGIT_SHAPES = frozenset("OoDIl|ZzSsBbgq") | frozenset(
    map(
        chr,
        (
            0x0241,  # latin capital letter glottal stop
            0x0242,  # latin small letter glottal stop
            0x0265,  # latin small letter turned h
            0x0396,  # greek capital letter zeta
            0x03E4,  # coptic capital letter fei
            0x03E5,  # coptic small letter fei
            0x046E,  # cyrillic capital letter ksi
            0x046F,  # cyrillic small letter ksi
            0x051B,  # cyrillic small letter qa
            0x0533,  # armenian capital letter gim
            0x053F,  # armenian capital letter ken
            0x0542,  # armenian capital letter ghad
            0x0549,  # armenian capital letter cha
            0x054E,  # armenian capital letter vew
            0x0563,  # armenian small letter gim
            0x0566,  # armenian small letter za
            0x056F,  # armenian small letter ken
            0x05DA,  # hebrew letter final kaf
            0x05E3,  # hebrew letter final pe
            0x05E8,  # hebrew letter resh
            0x07D7,  # nko letter cha
            0x07DE,  # nko letter ka
            0x0EB2,  # lao vowel sign aa
            0x10A1,  # georgian capital letter ban
            0x10A4,  # georgian capital letter en
            0x10A6,  # georgian capital letter zen
            0x10AF,  # georgian capital letter zhar
            0x10B7,  # georgian capital letter qar
            0x10C3,  # georgian capital letter we
            0x10F0,  # georgian letter hae
            0x10F4,  # georgian letter har
            0x1472,  # canadian syllabics ka
            0x1473,  # canadian syllabics kaa
            0x1646,  # canadian syllabics carrier z
            0x1D24,  # latin letter voiced laryngeal spirant
            0x2142,  # turned sans-serif capital l
            0x21BF,  # upwards harpoon with barb leftwards
            0x2D17,  # georgian small letter qar
            0xA4F6,  # lisu letter uh
            0xA72E,  # latin capital letter cuatrillo with comma
            0xA72F,  # latin small letter cuatrillo with comma
            0xA78D,  # latin capital letter turned h
            0x1D585,  # mathematical bold fraktur capital z
        ),
    )
)


def is_candidate(code_point: int) -> bool:
    """True for an assigned, visible, free-standing character: no control, private, combining or space."""
    return unicodedata.category(chr(code_point))[0] not in "CMZ"


def is_restyled(code_point: int) -> bool:
    """True for another character in a different weight, slant or size: ᵃ, ａ, mathematical bold italic a.

    The fonts already show each class in several weights and slants, so these would be its twins under another
    name. Script, fraktur and double-struck letters are other shapes, and stay.
    """
    char = chr(code_point)
    how = unicodedata.decomposition(char).partition(" ")[0]
    if how == "<font>":
        return not re.search(r"SCRIPT|FRAKTUR|BLACK-LETTER|DOUBLE-STRUCK", unicodedata.name(char))
    return how in ("<super>", "<sub>", "<wide>", "<narrow>", "<small>")


def is_numeric(code_point: int) -> bool:
    """True if the character depicts a number in any script, contains one that does, or has the shape of one.

    Category Nd, Nl or No, a numeric value (CJK 一 is a letter, Lo, and worth 1), a name that says so, or any
    of these somewhere in its compatibility decomposition (㎡ contains a 2).
    """
    char = chr(code_point)
    if NUMERIC_NAMES.search(unicodedata.name(char, "")):
        return True
    if unicodedata.normalize("NFKD", char) in DIGIT_SHAPES:
        return True
    parts = char + unicodedata.normalize("NFKD", char) + unicodedata.normalize("NFKC", char)
    return any(unicodedata.category(c)[0] == "N" or unicodedata.numeric(c, None) is not None for c in parts)
