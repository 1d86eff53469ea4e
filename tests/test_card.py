from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from epigone.report.card import CardFacts, TrainingFile, build_card, write_card
from epigone.report.escape import clean_text, escape_markdown, fence_text
from epigone.training.events import Evaluated, Sample
from helpers_page import evaluated as evaluated_at

HOSTILE = "<script>alert(1)</script> | **bold** `code` [link](http://x) # $x$ \x1b[31m\n## heading"


def evaluated(epoch: int, loss: float) -> Evaluated:
    return evaluated_at(epoch, loss, training=loss)


FACTS = CardFacts(
    title="Sonnets",
    n_parameters=1_234_567,
    evaluations=[evaluated(1, 4.0), evaluated(2, 3.0), evaluated(3, 3.5)],
    sources=[TrainingFile(name="sonnets.txt", size_bytes=98_012, n_characters=95_660, sha256="ab" * 32)],
    base="gpt2",
    base_on_hub=True,
    samples=[Sample(prompt="Shall I", text=" compare thee\nto a summer's day?", seed=7)],
    sample_moment="epoch 2",
    settings=[("learning rate", "5e-5", "customary")],
    versions={"torch": "2.13"},
)


def render(markdown: str) -> str:
    """HTML by the CommonMark reference rules, with tables, HTML let through."""
    return MarkdownIt("commonmark").enable("table").render(markdown)


def test_the_hub_client_reads_the_metadata_back(tmp_path: Path) -> None:
    data = ModelCard.load(write_card(FACTS, tmp_path)).data
    told = data.to_dict()
    assert told.pop("model-index")
    assert told == {
        "base_model": "gpt2",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gpt2", "style-imitation", "epigone"],
    }


def test_the_model_index_tells_the_best_evaluation(tmp_path: Path) -> None:
    data = ModelCard.load(write_card(FACTS, tmp_path)).data
    assert data.model_name == "Sonnets" and data.eval_results is not None
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"loss": 3.0, "perplexity": round(math.exp(3), 6), "bits_per_byte": 1.5, "accuracy": 0.25}


def test_a_number_that_is_none_is_not_in_the_model_index(tmp_path: Path) -> None:
    facts = replace(FACTS, evaluations=[replace(evaluated(1, 3.0), perplexity=math.inf)])
    results = ModelCard.load(write_card(facts, tmp_path)).data.eval_results or []
    assert [result.metric_type for result in results] == ["loss", "bits_per_byte", "accuracy"]


def test_verdicts_stand_in_the_card_with_their_numbers() -> None:
    verdict = {"tone": "fair", "sentence": "It *copies* a little.", "measures": [{"name": "a|b", "value": 0.012}]}
    verdict["measures"][0] |= {"unit": "share", "ceiling": {"name": "the text", "value": 1.0}}
    facts = replace(FACTS, judgement={"text": "t", "against": "a", "n_characters": 10, "copies": verdict})
    card = render(build_card(facts))
    assert "It *copies* a little." in card and "<td>1.2 %</td>" in card and "<td>the text, 100 %</td>" in card
    assert "How close it comes" not in build_card(FACTS)


@pytest.mark.parametrize("base", [None, "some/folder"])
def test_only_a_model_on_the_hub_is_linked(base: str | None, tmp_path: Path) -> None:
    path = write_card(replace(FACTS, base=base, base_on_hub=False), tmp_path)
    assert ModelCard.load(path).data.base_model is None
    assert ("trained from scratch" in path.read_text("utf-8")) == (base is None)


def test_the_licence_is_left_to_the_user_unless_it_is_stated(tmp_path: Path) -> None:
    assert "should add a `license:` line" in build_card(FACTS)
    stated = write_card(replace(FACTS, licence="mit"), tmp_path)
    assert ModelCard.load(stated).data.license == "mit"
    assert "## Licence" not in stated.read_text("utf-8")


def test_the_table_has_a_row_per_epoch_and_one_is_best() -> None:
    rows = [line for line in build_card(FACTS).split("\n") if line.startswith(("| 1.", "| **2.", "| 3."))]
    assert len(rows) == 3 and ["**best**" in row for row in rows] == [False, True, False]
    assert render(build_card(FACTS)).count("<table>") == 3


def test_the_curves_the_receipt_and_the_sample_are_shown() -> None:
    card = render(build_card(FACTS))
    assert 'src="curves.png"' in card and "ab" * 32 in card and "95,660" in card
    assert '<pre><code class="language-text">Shall I compare thee\nto a summer\'s day?\n</code></pre>' in card


@pytest.mark.parametrize("text", ["```", "a\n```\n# out", "`````\n\n<b>", "~~~\n", HOSTILE, "", "\r\n```\r\n"])
def test_no_text_breaks_out_of_its_fence(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(fence_text(text) + "\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].content == clean_text(text) + "\n"


def test_a_hostile_text_stays_a_text() -> None:
    tokens = MarkdownIt("commonmark").parse(f"# {escape_markdown(HOSTILE)}")
    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close"]
    assert {child.type for child in tokens[1].children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in tokens[1].children or []) == " ".join(clean_text(HOSTILE).split())


def test_hostile_names_do_not_change_the_card(tmp_path: Path) -> None:
    facts = replace(
        FACTS,
        title=HOSTILE,
        base=HOSTILE,
        base_on_hub=False,
        sources=[replace(FACTS.sources[0], name=HOSTILE)],
        samples=[Sample(prompt=HOSTILE, text="\n---\n", seed=0)],
        settings=[(HOSTILE, HOSTILE, HOSTILE)],
        versions={HOSTILE: HOSTILE},
    )
    hostile, tame = render(build_card(facts)), render(build_card(FACTS))
    assert "<script" not in hostile
    for tag in ("<h1", "<h2", "<table", "<tr", "<td", "<a ", "<pre", "<hr"):
        assert hostile.count(tag) == tame.count(tag)
    assert ModelCard.load(write_card(facts, tmp_path)).data.library_name == "transformers"
