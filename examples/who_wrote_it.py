"""Which of several models expects a text most? `python examples/who_wrote_it.py letter.txt runs/austen runs/poe`.

Bits per byte do not depend on the tokenizer, so models of any size and origin can be compared.
"""

import sys
from pathlib import Path

import epigone


def main(text: str, *folders: str) -> list[tuple[float, str]]:
    """The runs with the bits per byte that each needs for the text, the best first."""
    content = Path(text).read_text("utf-8")
    found = sorted((epigone.open_run(folder).score(content).bits_per_byte, folder) for folder in folders)
    for bits, folder in found:
        print(f"{bits:.3f} bits a byte  {folder}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
