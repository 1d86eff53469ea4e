"""Is a model copying its author? `python examples/is_it_copying.py runs/novel` measures it, and shows the remedy."""

import sys

import epigone

CHARACTERS = 20_000


def main(folder: str, n_characters: int = CHARACTERS) -> float:
    """The share of what the model writes that stands in its training text, with the judge's own words."""
    run = epigone.open_run(folder)
    copies = run.judge(n_characters).as_json()["copies"]
    print(copies["sentence"])
    print(f"Share: {copies['share']:.2%}. Longest passage: {copies['longest_characters']} characters.")
    print("\nThe same model, allowed no passage of more than 50 characters from the text:\n")
    print(run.write(length=60, max_copy=50)[0])
    return float(copies["share"])


if __name__ == "__main__":
    main(sys.argv[1])
