// Writing: the text, its marks, going on from the cursor, and the way back and forth through its history.

import {Candidates} from './candidates.js';
import {CopyFinder, describePlace, listPlaces} from './copies.js';
import {count, get, later, say, showProblem} from './dom.js';
import {Editor} from './editor.js';
import {findOrder} from './generation.js';
import {showHistory} from './history.js';
import {makeSeed} from './settings.js';
import {findCaret, findPassageEnd, findSpan} from './spans.js';
import {score, showLegend} from './surprise.js';

const N_CANDIDATES = 3;

export class Writing {
  /**
   * @param {import('./models.js').Models} models @param {import('./settings.js').Settings} settings
   * @param {import('./shelf.js').Shelf} shelf @param {import('./alternatives.js').Popover} popover
   */
  constructor(models, settings, shelf, popover) {
    Object.assign(this, {models, settings, shelf, popover, copied: [], scored: null, rounds: 0, order: null});
    this.copies = new CopyFinder(name => Boolean(models.find(name)?.can.copies));
    this.editor = new Editor({
      onInput: () => this.input(),
      onBreak: () => this.tree.seal(),
      onCaret: () => this.showCaret(),
      onHover: (marks, element) => this.hover(marks, element),
    });
    this.candidates = new Candidates({
      onTake: (generation, index, tokens, goOn) => this.take(generation, index, tokens, goOn),
      onClose: generation => this.keep(generation, -1), onAgain: () => this.goOn(true),
    }, popover, this.copies);
    this.save = later(() => shelf.save(), 800);
    this.look = later(() => this.findMarks(), 700);
    this.listen();
  }

  get tree() { return this.shelf.tree; }

  listen() {
    const click = (id, work) => get(id).addEventListener('click', work);
    click('continue', () => this.goOn());
    click('back', () => this.travel(() => this.tree.back()));
    click('forward', () => this.travel(() => this.tree.forward()));
    click('previous', () => this.travel(() => this.tree.step(-1)));
    click('following', () => this.travel(() => this.tree.step(1)));
    click('others', () => this.offerAtCaret());
    const field = this.editor.field;
    field.addEventListener('keydown', event => this.press(event));
    field.addEventListener('beforeinput', event => this.undo(event));
    field.addEventListener('click', () => this.clicked());
    field.addEventListener('blur', () => { this.escaped = false; });
    document.addEventListener('keydown', event => this.pressAnywhere(event));
    new ResizeObserver(() => this.candidates.isOpen && this.editor.reveal(this.order.at)).observe(get('candidates'));
    get('history').addEventListener('toggle', () => {
      showHistory(this.tree, id => this.travel(() => this.tree.goTo(id)));
      if (get('history').open) get('history').scrollIntoView({block: 'nearest'});
    });
    for (const id of ['show-model', 'show-copies', 'show-surprise']) get(id).addEventListener('change', () => this.findMarks());
  }

  /** Show a text that was opened. */
  open() {
    if (this.candidates.isOpen) this.candidates.end();
    Object.assign(this, {copied: [], scored: null, rounds: 0, order: null});
    this.showState(this.tree.text().length);
  }

  // -- keys

  press(event) {
    if (event.isComposing) return;  // a character is being put together
    const control = event.ctrlKey || event.metaKey, plain = !control && !event.altKey;
    if (event.key === 'Enter' && control) this.goOn();
    else if (event.key === 'Tab' && plain && !event.shiftKey && !this.escaped) this.goOn();
    else if (event.key === 'F2') this.offerAtCaret();
    else if (event.key === 'Escape') { this.escaped = true; this.popover.close(); return; }
    else { this.escaped = this.escaped && event.key === 'Tab'; return; }
    event.preventDefault();
  }

  pressAnywhere(event) {
    if (get('write').hidden || (event.target.matches('input, select') && event.target.type !== 'checkbox')) return;
    const control = (event.ctrlKey || event.metaKey) && !event.altKey, key = event.key.toLowerCase();
    if (control && event.key === 'Enter' && !event.defaultPrevented) this.goOn();
    else if (control && key === 'z') this.travel(() => event.shiftKey ? this.tree.forward() : this.tree.back());
    else if (control && key === 'y') this.travel(() => this.tree.forward());
    else if (event.altKey && event.code === 'Comma') this.travel(() => this.tree.step(-1));
    else if (event.altKey && event.code === 'Period') this.travel(() => this.tree.step(1));
    else return;
    event.preventDefault();
  }

  /** The browser's own undo, from a menu, goes through the same history. */
  undo(event) {
    if (event.inputType !== 'historyUndo' && event.inputType !== 'historyRedo') return;
    event.preventDefault();
    this.travel(() => event.inputType === 'historyUndo' ? this.tree.back() : this.tree.forward());
  }

  // -- the text and its history

  /** What was typed is a new state; continuations of the one before it are laid aside. */
  input() {
    const text = this.editor.text;
    if (text === this.tree.text()) return;
    if (this.candidates.isOpen) this.candidates.close();
    this.tree.edit(text);
    this.changed();
  }

  changed() {
    this.shelf.dirty = true;
    this.copied = [];
    this.scored = null;
    this.paint();
    this.save();
    this.look();
    showHistory(this.tree, id => this.travel(() => this.tree.goTo(id)));
  }

  /** Go to another state of the text. @param {() => void} move */
  travel(move) {
    if (this.candidates.isOpen) this.candidates.close();
    this.input();
    const before = this.tree.text();
    move();
    const after = this.tree.text();
    this.showState(after === before ? this.editor.selection.end : findCaret(before, after), false);
    say(`${count(after.length, 'character')}.`);
  }

  showState(caret, focus = true) {
    this.editor.show(this.tree.text(), caret);
    this.changed();
    if (focus || document.activeElement?.disabled) this.editor.focus();
    this.editor.reveal(caret);
    this.showCaret();
  }

  // -- going on

  /** What a model is asked for at the cursor. @param {import('./models.js').Model} model */
  makeOrder(model, again = false) {
    const {at, del, prompt} = findOrder(this.editor.text, this.editor.selection);
    this.rounds = again ? this.rounds + 1 : 0;
    const base = this.settings.values.seed ?? (again && this.order ? this.order.base : makeSeed());
    const seed = (base + N_CANDIDATES * this.rounds) % 2 ** 32;
    const order = {model: model.name, prompt, seed, n: N_CANDIDATES, settings: this.settings.makeRequest(model)};
    return {at, del, base, parent: this.tree.at, order};
  }

  goOn(again = false) {
    const model = this.settings.model;
    if (!model) { showProblem('There is no model here yet. Train one: epigone train TEXT'); return; }
    if (this.candidates.isOpen) this.candidates.close();
    this.input();
    this.popover.close();
    this.order = this.makeOrder(model, again);
    get('dock').scrollIntoView({block: 'nearest'});
    this.candidates.start(this.order.order);
    this.editor.reveal(this.order.at);
  }

  /** Put all continuations into the history, and go to the one that was taken. */
  take(generation, index, tokens, goOn) {
    const whole = tokens.length === generation.candidates[index].tokens.length && !goOn;
    const taken = this.keep(generation, whole ? index : -1);
    const id = taken ?? this.add(generation, index, tokens);
    this.tree.goTo(id);
    const {patch} = this.tree.current;
    this.showState(patch.at + patch.ins.length);
    if (goOn) this.goOn();
    else say(`Continuation ${index + 1} was taken.`);
  }

  /** Keep what was written in the history. @returns {number|undefined} the state of one of them */
  keep(generation, index) {
    const add = candidate => candidate.text ? this.add(generation, candidate.index, candidate.tokens) : undefined;
    const ids = generation.candidates.map(add);
    this.changed();
    if (index < 0) this.editor.focus();
    return ids[index];
  }

  add(generation, index, tokens) {
    const {at, del, parent} = this.order, {model, seed} = generation.order;
    const ins = tokens.map(token => token.text).join('');
    return this.tree.add('model', {at, del, ins}, {tokens, origin: {model, seed: seed + index}, parent, stay: true});
  }

  /** Take what another page of this program has written. @param {import('./generation.js').Generation} generation */
  takeFrom(generation, at, del) {
    this.order = {at, del, base: generation.order.seed, parent: this.tree.at, order: generation.order};
    this.take(generation, 0, generation.candidates[0].tokens, false);
  }

  // -- marks

  async findMarks() {
    this.paint();
    this.marking?.abort();
    const {signal} = this.marking = new AbortController(), text = this.editor.text, model = this.settings.model;
    if (!model || !text) { this.copied = []; listPlaces([], () => {}); showLegend(null); return; }
    const copied = get('show-copies').checked ? this.copies.find(model.name, text, signal) : [];
    const scored = get('show-surprise').checked ? this.score(model.name, text, signal) : null;
    const found = [await copied, await scored];
    if (signal.aborted || this.editor.text !== text) return;
    [this.copied, this.scored] = found;
    listPlaces(this.copied, passage => this.goTo(passage));
    showLegend(this.scored ? this.scored.bits : null, this.scored?.start > 0);
    this.paint();
  }

  async score(model, text, signal) {
    try {
      return await score(model, text, this.editor.selection.end, signal);
    } catch (error) {
      showProblem(error);
      return null;
    }
  }

  /** Put the cursor to the end of a passage. */
  goTo(passage) {
    this.editor.show(this.editor.text, passage.end);
    this.editor.focus();
    this.editor.reveal(passage.start);
  }

  paint() {
    const spans = this.tree.spans(), marks = [];
    const tint = get('show-model').checked ? 'token tint' : 'token';
    for (const span of spans) marks.push({start: span.start, end: span.end, name: tint, value: span});
    for (const passage of this.copied) marks.push({start: passage.start, end: passage.end, name: 'copied', value: passage});
    if (this.scored && get('show-surprise').checked) marks.push(...this.scored.marks);
    this.editor.mark(marks);
    const words = this.editor.text.match(/\S+/gu)?.length ?? 0;
    get('count').textContent = count(words, 'word');
  }

  // -- other words

  hover(marks, element) {
    const own = marks.find(mark => mark.name.startsWith('token')), scored = marks.find(mark => mark.name.startsWith('surprise'));
    const copied = marks.find(mark => mark.name === 'copied');
    if (own) this.popover.rest(element, () => this.offer(element, own.value, false));
    else if (scored) this.popover.rest(element, () => this.offerOwn(element, scored));
    else if (copied) this.popover.rest(element, () => this.popover.open(element, 'Where it stands', describePlace(copied.value)));
    else this.popover.leave();
  }

  offer(element, span, focus) {
    this.popover.showTokens(element, span.token, name => this.replace(span, name), focus);
  }

  /** What the model expected of the writer's own words; one can be taken in place of them. */
  offerOwn(element, mark) {
    this.popover.showTokens(element, mark.value, name => this.exchange(mark, name));
  }

  showCaret() {
    const {start, end} = this.editor.selection;
    get('others').disabled = start !== end || !findSpan(this.tree.spans(), start);
  }

  offerAtCaret() {
    const span = findSpan(this.tree.spans(), this.editor.selection.start);
    const piece = span && this.editor.findPiece(span.start, 'token');
    if (piece) this.offer(piece.element, span, true);
  }

  /** Another token in place of one: the rest of what was written with it goes, and the model goes on from there. */
  replace(span, name) {
    this.input();
    const spans = this.tree.spans(), now = spans.find(one => one.token === span.token && one.start === span.start);
    if (!now) return;
    const end = findPassageEnd(spans, now), logp = span.token.top.find(([text]) => text === name)?.[1] ?? null;
    this.put({at: now.start, del: end - now.start, ins: name}, [{text: name, logp, top: span.token.top}]);
    this.goOn();
  }

  exchange(mark, name) {
    this.input();
    this.put({at: mark.start, del: mark.end - mark.start, ins: name}, [{text: name, logp: null, top: mark.value.top}]);
  }

  put(patch, tokens) {
    const model = this.settings.model;
    this.tree.add('model', patch, {tokens, origin: {model: model.name, seed: 0}});
    this.showState(patch.at + patch.ins.length);
  }

  /** A click on a passage that stands in the training text shows the place. */
  clicked() {
    const {start, end} = this.editor.selection, piece = start === end && this.editor.findPiece(start, 'copied');
    const passage = piece && piece.marks.find(mark => mark.name === 'copied').value;
    if (!passage || start <= passage.start || start >= passage.end) return;
    this.popover.open(piece.element, 'Where it stands', describePlace(passage));
  }
}
