"""The questions of a quiz in, one offline page that asks them and counts the answers out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from epigone.evaluation.quiz import FEWEST_ANSWERS, Z95, Question
from epigone.report.elements import draw_page, draw_paragraph, escape, shorten_text

LONGEST = 4000
"""Characters of a passage."""
COUNTS = f"""
const asked = [...document.querySelectorAll('.question')], result = document.querySelector('.result');
const answers = new Map();
function tell() {{
  const n = answers.size, hits = [...answers].filter(([q, said]) => q.dataset.is === said).length;
  if (n < asked.length) {{ result.textContent = n + ' of ' + asked.length + ' answered'; return; }}
  const s = hits / n, zz = {Z95} ** 2, d = 1 + zz / n;
  const middle = (s + zz / (2 * n)) / d, half = {Z95} * Math.sqrt(s * (1 - s) / n + zz / (4 * n * n)) / d;
  const low = Math.max(0, middle - half), high = Math.min(1, middle + half), per = x => Math.round(100 * x);
  const says = n < {FEWEST_ANSWERS} ? 'Fewer than {FEWEST_ANSWERS} answers say little.'
    : low > .5 ? 'You could tell them apart.' : high < .5 ? 'You told them apart, but took one for the other.'
    : 'You could not tell them apart.';
  const wrong = asked.map((q, i) => answers.get(q) === q.dataset.is ? 0 : i + 1).filter(Boolean);
  result.textContent = 'Right: ' + hits + ' of ' + n + ', ' + per(s) + ' % (95 % interval: ' + per(low) + ' to '
    + per(high) + ' %; guessing gives 50 %). ' + says + (wrong.length ? ' Wrong: ' + wrong.join(', ') + '.' : '');
  asked.forEach(q => {{ q.querySelector('details').hidden = false; q.querySelector('details').open = true; }});
}}
asked.forEach(question => {{
  question.querySelector('details').hidden = true;
  for (const who of ['author', 'model']) {{
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = 'the ' + who; button.setAttribute('aria-pressed', 'false');
    button.onclick = () => {{
      if (answers.size === asked.length) return;
      answers.set(question, who);
      question.querySelectorAll('button').forEach(b => b.setAttribute('aria-pressed', String(b === button)));
      tell();
    }};
    question.append(button);
  }}
}});
tell();
"""
"""Without it, the page still shows the passages, and behind each who wrote it."""


def build_quiz_page(questions: Sequence[Question], name: str) -> str:
    """The page, as HTML. Only this one script may run in it, by its hash."""
    fingerprint = base64.b64encode(hashlib.sha256(COUNTS.encode()).digest()).decode()
    title = f"{name}: the author or the model?"
    body = "\n".join(
        [
            f'<header><h1 dir="auto">{escape(shorten_text(title, 160))}</h1>',
            draw_paragraph(
                f"{len(questions)} passages: half of them the author wrote, and the model has not learned from these; "
                "the other half the model wrote. Who wrote which? The answers are shown when all are given."
            ),
            "</header><main>",
            *(_draw_question(number, question) for number, question in enumerate(questions, 1)),
            '<p class="result lead" role="status"></p>',
            "</main>",
        ]
    )
    return draw_page(title, body, COUNTS, f"; script-src 'sha256-{fingerprint}'")


def _draw_question(number: int, question: Question) -> str:
    who = "author" if question.genuine else "model"
    return (
        f'<section class="question" data-is="{who}" aria-label="Passage {number}"><h2>{number}</h2>\n'
        f'<p class="said" dir="auto" lang="">{escape(shorten_text(question.text, LONGEST))}</p>\n'
        f"<details><summary>Who wrote it?</summary><p>The {who}.</p></details></section>"
    )
