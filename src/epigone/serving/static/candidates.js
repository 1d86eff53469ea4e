// Three continuations side by side while they are written, from which one is taken, or none.

import {describePlace} from './copies.js';
import {count, get, make, say, showProblem} from './dom.js';
import {Generation} from './generation.js';
import {findTail} from './tokens.js';

/** Characters of the prompt before a continuation in which a copied passage may have begun. */
const OVERLAP = 200;
/** Characters of a continuation from which a passage counts; that a quotation goes on for a word does not. */
const FEWEST = 20;

export class Candidates {
  /**
   * @param {{onTake: (generation: Generation, index: number, tokens: import('./tokens.js').Token[], goOn: boolean) => void,
   *   onClose: (generation: Generation) => void, onAgain: () => void}} listeners
   * @param {import('./alternatives.js').Popover} popover @param {import('./copies.js').CopyFinder} copies
   */
  constructor(listeners, popover, copies) {
    Object.assign(this, {listeners, popover, copies});
    this.box = get('candidates');
    /** @type {Generation|null} */
    this.generation = null;
    get('again').addEventListener('click', () => this.again());
    get('discard').addEventListener('click', () => this.close());
    this.box.addEventListener('keydown', event => this.press(event));
  }

  get isOpen() { return !this.box.hidden; }

  /** @param {import('./generation.js').Order} order */
  async start(order) {
    this.generation?.stop();
    const generation = this.generation = new Generation(order);
    this.cards = generation.candidates.map(candidate => this.makeCard(candidate));
    get('cards').replaceChildren(...this.cards.map(card => card.item));
    this.box.hidden = false;
    this.box.focus({preventScroll: true});
    this.tell('writing …');
    const watch = this.copies.watch(() => this.checkCopies(generation));
    try {
      await generation.run(
        (candidate, tokens) => this.add(generation, candidate, tokens),
        seconds => this.tell(`The server is busy; another try in ${Math.round(seconds)} s.`),
      );
      if (this.generation === generation) this.finish(generation);
    } catch (error) {
      if (this.generation === generation) this.fail(error);
    } finally {
      watch.finish();
    }
  }

  tell(words) { get('candidates-state').textContent = words; }

  finish(generation) {
    const seeds = generation.candidates.map(candidate => candidate.seed);
    this.tell(`seed ${seeds[0] ?? generation.order.seed}`);
    for (const card of this.cards) card.item.setAttribute('aria-busy', 'false');
    say(`${this.cards.length} continuations are ready. Press 1, 2 or 3 to take one, R for others, Escape for none.`);
  }

  fail(error) {
    showProblem(error);
    if (this.generation.candidates.every(candidate => !candidate.text)) this.close();
    else this.tell('broken off');
  }

  makeCard(candidate) {
    const number = candidate.index + 1;
    const names = {'aria-label': `Take continuation ${number}`, 'aria-keyshortcuts': String(number)};
    const take = make('button', {type: 'button', class: 'take', ...names}, make('kbd', {}, String(number)), make('span', {}, ' Take'));
    const label = `Continuation ${number}; arrow keys move from word to word`;
    const text = make('p', {class: 'written', role: 'group', dir: 'auto', lang: '', tabIndex: 0, 'aria-label': label});
    const note = make('span', {class: 'quiet note'});
    const item = make('li', {class: 'card', 'aria-busy': 'true'}, make('div', {class: 'head'}, take, note), text);
    const card = {item, text, note, spans: []};
    take.addEventListener('click', () => this.take(candidate.index));
    text.addEventListener('click', () => window.getSelection().isCollapsed && this.take(candidate.index));
    text.addEventListener('pointerover', event => event.pointerType === 'mouse' && this.hover(card, candidate, event.target));
    text.addEventListener('pointerout', () => this.popover.leave());
    text.addEventListener('keydown', event => this.walk(card, candidate, event));
    return card;
  }

  add(generation, candidate, tokens) {
    if (this.generation !== generation) return;
    const card = this.cards[candidate.index];
    for (const token of tokens) {
      const span = make('span', {class: 'token', tabIndex: -1}, token.text);
      card.spans.push(span);
      card.text.append(span);
    }
    if (candidate.reason) {
      card.item.setAttribute('aria-busy', 'false');
      card.note.textContent = candidate.text ? '' : 'The model ends the text here.';
    }
    card.item.scrollTop = card.item.scrollHeight;
  }

  hover(card, candidate, span) {
    const at = card.spans.indexOf(span);
    if (at >= 0 && !this.box.hidden) this.popover.rest(span, () => this.offer(card, candidate, at, false));
  }

  /** Show what else could have stood there. */
  offer(card, candidate, at, focus) {
    const take = name => this.takeOther(candidate, at, name);
    this.popover.showTokens(card.spans[at], candidate.tokens[at], take, focus);
  }

  /** From word to word by keys. */
  walk(card, candidate, event) {
    const at = card.spans.indexOf(document.activeElement);
    if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
      const next = card.spans[at + (event.key === 'ArrowRight' ? 1 : -1)];
      if (next) { next.focus(); this.offer(card, candidate, card.spans.indexOf(next), false); }
    } else if (event.key === 'Enter' || event.key === ' ') this.take(candidate.index);
    else if ((event.key === 'ArrowDown' || event.key === 'F2') && at >= 0) this.offer(card, candidate, at, true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const number = '123456789'.indexOf(event.key) + 1;
    if (number >= 1 && number <= this.cards.length) this.take(number - 1);
    else if (event.key === 'r' || event.key === 'R') this.again();
    else if (event.key === 'Escape') this.close();
    else return;
    event.preventDefault();
  }

  take(index) {
    const generation = this.generation, candidate = generation?.candidates[index];
    if (!candidate?.text) return;
    this.end();
    this.listeners.onTake(generation, index, candidate.tokens, false);
  }

  takeOther(candidate, at, name) {
    const generation = this.generation;
    const top = candidate.tokens[at].top, logp = top.find(([text]) => text === name)?.[1] ?? null;
    this.end();
    this.listeners.onTake(generation, candidate.index, [...candidate.tokens.slice(0, at), {text: name, logp, top}], true);
  }

  again() {
    const generation = this.generation;
    this.end();
    this.listeners.onClose(generation);
    this.listeners.onAgain();
  }

  /** Take none. */
  close() {
    const generation = this.generation;
    this.end();
    if (generation) this.listeners.onClose(generation);
    say('None was taken.');
  }

  end() {
    this.generation?.stop();
    this.generation = null;
    this.popover.close();
    this.box.hidden = true;
    get('cards').replaceChildren();
  }

  /** Underline what stands in the training text. */
  async checkCopies(generation) {
    const {prompt, model} = generation.order, before = prompt.slice(findTail(prompt, OVERLAP));
    for (const candidate of generation.candidates) {
      if (this.generation !== generation) return;
      const passages = await this.copies.find(model, before + candidate.text);
      if (this.generation === generation) this.underline(this.cards[candidate.index], candidate, passages, before.length);
    }
  }

  underline(card, candidate, passages, start) {
    const inside = passage => passage.end - Math.max(start, passage.start), found = passages.filter(passage => inside(passage) >= FEWEST);
    let place = start;
    candidate.tokens.forEach((token, i) => {
      const end = place + token.text.length;
      card.spans[i]?.classList.toggle('copied', found.some(passage => passage.start < end && passage.end > place));
      place = end;
    });
    if (!found.length) { if (candidate.text) card.note.replaceChildren(); return; }
    const longest = found.reduce((one, other) => inside(other) > inside(one) ? other : one);
    const show = make('button', {type: 'button', class: 'link'}, `${count(inside(longest), 'character')} as in the training text`);
    show.addEventListener('click', () => this.popover.open(show, 'Where it stands', describePlace(longest), true));
    if (!card.note.contains(document.activeElement)) card.note.replaceChildren(show);
  }
}
