// The quiz: passages half by the author and half by the model, and how many were told apart.

import {ask} from './api.js';
import {copy, get, make, say, showProblem, tame} from './dom.js';
import {makeSeed} from './settings.js';

const N_PASSAGES = 10, N_WORDS = 40;

export class Quiz {
  constructor() {
    get('quiz-start').addEventListener('click', () => this.start());
    get('quiz-share').querySelector('button').addEventListener('click', () => copyLine());
  }

  /** @param {import('./models.js').Model|undefined} model */
  show(model) {
    const can = Boolean(model?.can.quiz);
    if (this.model?.name !== model?.name) this.clear();
    this.model = model;
    get('quiz-start').hidden = !can;
    get('quiz-intro').textContent = can
      ? `${N_PASSAGES} passages: half by the author, from text that the model was not trained on, and half by the model `
        + `${tame(model.name)}. Who wrote which?`
      : 'A quiz needs a run that has finished its first evaluation. Choose one above.';
  }

  clear() {
    get('questions').replaceChildren();
    get('quiz-result').hidden = get('quiz-share').hidden = true;
  }

  async start() {
    const button = get('quiz-start'), {name} = this.model;
    button.disabled = true;
    button.textContent = 'The model is writing …';
    try {
      const quiz = await ask('/api/quiz', {model: name, count: N_PASSAGES, length: N_WORDS, seed: makeSeed()});
      if (this.model.name === name) this.pose(quiz);
    } catch (error) {
      showProblem(error);
    } finally {
      button.disabled = false;
      button.textContent = 'Start another quiz';
    }
  }

  pose({questions, outcomes, shares}) {
    this.questions = questions;
    this.outcomes = outcomes;
    this.shares = shares;
    get('quiz-share').hidden = true;
    /** @type {Map<number, boolean>} */
    this.answers = new Map();
    this.items = questions.map((question, i) => makeQuestion(question, i, genuine => this.answer(i, genuine)));
    get('questions').replaceChildren(...this.items.map(item => item.section));
    get('quiz-result').hidden = false;
    this.score();
    this.items[0]?.section.querySelector('button').focus();
  }

  answer(i, genuine) {
    if (this.answers.size === this.questions.length) return;
    this.answers.set(i, genuine);
    for (const {button, is} of this.items[i].buttons) button.setAttribute('aria-pressed', String(is === genuine));
    this.score();
  }

  score() {
    const n = this.questions.length;
    if (this.answers.size < n) {
      get('quiz-result').textContent = `${this.answers.size} of ${n} answered`;
      return;
    }
    const n_right = this.questions.filter((question, i) => question.genuine === this.answers.get(i)).length;
    get('quiz-result').textContent = this.outcomes?.[n_right] ?? `${n_right} of ${n} right; guessing gives ${n / 2}.`;
    offerLine(this.shares?.[n_right]);
    this.items.forEach((item, i) => reveal(item, this.questions[i], this.answers.get(i)));
  }
}

function makeQuestion(question, i, onAnswer) {
  const buttons = [true, false].map(is => {
    const button = make('button', {type: 'button', 'aria-pressed': 'false'}, is ? 'the author' : 'the model');
    button.addEventListener('click', () => onAnswer(is));
    return {button, is};
  });
  const truth = make('p', {class: 'quiet truth'});
  const section = make('section', {class: 'question', 'aria-label': `Passage ${i + 1}`}, make('h3', {}, String(i + 1)),
    make('p', {class: 'written', dir: 'auto', lang: ''}, question.text), ...buttons.map(one => one.button), truth);
  return {section, buttons, truth};
}

/** Show the line to share. Nothing is sent: who wants to, copies it. @param {string|undefined} line */
function offerLine(line) {
  const box = get('quiz-share');
  box.querySelector('.line').textContent = line ?? '';
  box.querySelector('button').textContent = 'Copy this line';
  box.hidden = !line;
}

async function copyLine() {
  const line = get('quiz-share').querySelector('.line'), button = get('quiz-share').querySelector('button');
  const is_copied = await copy(line.textContent);
  if (!is_copied) getSelection()?.selectAllChildren(line);
  button.textContent = is_copied ? 'Copied' : 'Now press Ctrl+C';
  say(button.textContent);
}

function reveal(item, question, answer) {
  const right = question.genuine === answer;
  item.truth.textContent = `${right ? 'Right' : 'Wrong'}: it is by the ${question.genuine ? 'author' : 'model'}.`;
  item.truth.className = `truth ${right ? 'good' : 'bad'}`;
  for (const {button} of item.buttons) button.disabled = true;
}
