from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from epigone.evaluation.verdict import Judgement, Measure, Reference, Verdict
from epigone.report.escape import clean_text, escape_markdown, fence_text
from epigone.report.pages import CardData, TrainingFile, render_card
from epigone.report.views import Row
from epigone.training.events import Evaluated, Sample
from helpers_page import JUDGEMENT, hostile_judgement, make_showcase
from helpers_page import evaluated as evaluated_at

HOSTILE = "<script>alert(1)</script> | **bold** `code` [link](http://x) # $x$ \x1b[31m\n## heading"


def evaluated(epoch: int, loss: float) -> Evaluated:
    return evaluated_at(epoch, loss, training=loss)


DATA = CardData(
    title="Sonnets",
    n_parameters=1_234_567,
    evaluations=[evaluated(1, 4.0), evaluated(2, 3.0), evaluated(3, 3.5)],
    sources=[TrainingFile(name="sonnets.txt", size_bytes=98_012, n_characters=95_660, sha256="ab" * 32)],
    base="gpt2",
    base_on_hub=True,
    samples=[Sample(prompt="Shall I", text=" compare thee\nto a summer's day?", seed=7)],
    sample_weights="epoch 2",
    settings=[Row("learning rate", "5e-5", "customary")],
    versions={"torch": "2.13"},
)


def load(data: CardData, folder: Path) -> ModelCard:
    """The card as the hub's client reads it."""
    path = folder / "README.md"
    path.write_bytes(render_card(data).encode("utf-8", "replace"))
    return ModelCard.load(path)


def render(markdown: str) -> str:
    """HTML by the CommonMark reference rules, with tables, HTML let through."""
    return MarkdownIt("commonmark").enable("table").render(markdown)


def test_the_hub_client_reads_the_metadata_back(tmp_path: Path) -> None:
    told = load(DATA, tmp_path).data.to_dict()
    assert told.pop("model-index")
    assert told == {
        "base_model": "gpt2",
        "base_model_relation": "finetune",
        "widget": [{"text": "Shall I"}],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gpt2", "style-imitation", "epigone"],
    }


def test_the_model_index_tells_the_best_evaluation(tmp_path: Path) -> None:
    data = load(DATA, tmp_path).data
    assert data.model_name == "Sonnets" and data.eval_results is not None
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"loss": 3.0, "perplexity": round(math.exp(3), 6), "bits_per_byte": 1.5, "accuracy": 0.25}


def test_the_model_index_tells_the_verdicts(tmp_path: Path) -> None:
    verdict = Verdict(topic="copies", grade="good", sentence="", facts={"share": 0.001, "longest_characters": 31})
    data = replace(DATA, judgement=Judgement(text="t", against="a", n_characters=10, verdicts=(verdict,)))
    results = load(data, tmp_path).data.eval_results or []
    generated = {one.metric_type: one.metric_value for one in results if one.dataset_type == "generated"}
    assert generated == {"copied_share": 0.001, "longest_copy": 31}


def test_a_card_without_a_licence_asks_for_one_where_it_belongs(tmp_path: Path) -> None:
    front = render_card(DATA).split("---\n")[1]
    assert "\n# license: add" in front and load(DATA, tmp_path).data.license is None
    assert "# license" not in render_card(replace(DATA, licence="mit"))


def test_the_best_text_its_language_and_the_temperature_stand_in_the_card(tmp_path: Path) -> None:
    showcase = make_showcase("Once upon a time it rained.").model_copy(update={"language": "en"})
    card = load(replace(DATA, showcase=showcase, temperature=0.85, samples=()), tmp_path)
    assert card.data.language == "en" and card.data["widget"] == [{"text": "Once upon a time"}]
    assert "```text\nOnce upon a time it rained.\n```" in card.text and "temperature 0.85" in card.text


def test_a_number_that_is_not_finite_is_not_in_the_model_index(tmp_path: Path) -> None:
    data = replace(DATA, evaluations=[replace(evaluated(1, 3.0), perplexity=math.inf)])
    results = load(data, tmp_path).data.eval_results or []
    assert [result.metric_type for result in results] == ["loss", "bits_per_byte", "accuracy"]


def test_verdicts_stand_in_the_card_with_their_numbers() -> None:
    ceiling = Reference(name="the text", value=1.0)
    measure = Measure(name="a|b", value=0.012, unit="share", ceiling=ceiling)
    verdict = Verdict(topic="copies", grade="fair", sentence="It *copies* a little.", measures=(measure,))
    data = replace(DATA, judgement=Judgement(text="t", against="a", n_characters=10, verdicts=(verdict,)))
    card = render(render_card(data))
    assert "It *copies* a little." in card and "<td>1 %</td>" in card and "<td>the text, 100 %</td>" in card
    assert "How close it comes" not in render_card(DATA)


@pytest.mark.parametrize("base", [None, "some/folder"])
def test_only_a_model_on_the_hub_is_linked(base: str | None, tmp_path: Path) -> None:
    card = load(replace(DATA, base=base, base_on_hub=False), tmp_path)
    assert card.data.base_model is None
    assert ("trained from scratch" in card.text) == (base is None)


def test_the_licence_is_left_to_the_user_unless_it_is_stated(tmp_path: Path) -> None:
    assert "should add a `license:` line" in render_card(DATA)
    stated = load(replace(DATA, licence="mit"), tmp_path)
    assert stated.data.license == "mit" and "## Licence" not in stated.text


def test_the_table_has_a_row_per_epoch_and_one_is_best() -> None:
    rows = [line for line in render_card(DATA).split("\n") if line.startswith(("| 1.", "| **2.", "| 3."))]
    assert len(rows) == 3 and ["**best**" in row for row in rows] == [False, True, False]
    assert render(render_card(DATA)).count("<table>") == 3


def test_the_curves_the_receipt_and_the_sample_are_shown() -> None:
    card = render(render_card(DATA))
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


@pytest.mark.parametrize(
    "text", ["- item", "+ item", "12. item", "3) item", "---", "-", "> quote", "# head", "    code"]
)
def test_no_text_begins_a_block_of_its_own(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(escape_markdown(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert "".join(child.content for child in tokens[1].children or []) == text.strip()


def test_hostile_names_do_not_change_the_card(tmp_path: Path) -> None:
    data = replace(
        DATA,
        title=HOSTILE,
        base=HOSTILE,
        base_on_hub=False,
        sources=[replace(DATA.sources[0], name=HOSTILE)],
        samples=[Sample(prompt=HOSTILE, text="\n---\n", seed=0)],
        settings=[Row(HOSTILE, HOSTILE, HOSTILE)],
        versions={HOSTILE: HOSTILE},
        judgement=hostile_judgement(),
    )
    hostile, tame = render(render_card(data)), render(render_card(replace(DATA, judgement=JUDGEMENT)))
    assert "<script" not in hostile
    for tag in ("<h1", "<h2", "<table", "<tr", "<td", "<a ", "<pre", "<hr"):
        assert hostile.count(tag) == tame.count(tag)
    assert load(data, tmp_path).data.library_name == "transformers"
