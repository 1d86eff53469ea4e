// The text that is written on: a text field, and behind it the same text with the marks that a text field cannot have.
//
// The field is the browser's own, so typing, composing, spelling aids and screen readers work as everywhere. The copy
// behind it is invisible but for its marks.

import {get, make} from './dom.js';
import {divide} from './spans.js';
import {normalise} from './tokens.js';

export class Editor {
  /**
   * @param {{onInput: () => void, onBreak: () => void, onCaret: () => void,
   *   onHover: (marks: Mark[], element: Element|null) => void}} listeners
   */
  constructor(listeners) {
    this.field = get('text');
    this.mirror = get('mirror');
    this.pieces = [];
    this.field.addEventListener('input', () => { this.fit(); listeners.onInput(); });
    this.field.addEventListener('paste', event => this.paste(event, listeners));
    document.addEventListener('selectionchange', () => document.activeElement === this.field && listeners.onCaret());
    this.field.addEventListener('pointermove', event => event.pointerType === 'mouse' && this.hover(event, listeners.onHover));
    this.field.addEventListener('pointerleave', () => listeners.onHover([], null));
    this.touched = false;
    document.addEventListener('pointerdown', event => { this.touched = event.pointerType === 'touch'; }, true);
    document.addEventListener('keydown', () => { this.touched = false; }, true);
    new ResizeObserver(() => this.fit()).observe(get('sheet'));
  }

  get text() { return this.field.value; }

  get selection() { return {start: this.field.selectionStart, end: this.field.selectionEnd}; }

  /** Put in a text and the cursor, without what the browser would take for typing. @param {string} text */
  show(text, caret = text.length) {
    if (this.field.value !== text) this.field.value = text;
    this.field.setSelectionRange(caret, caret);
    this.fit();
  }

  /** Unless the last thing done was a touch: the keyboard of a phone would come up and cover the text. */
  focus() {
    if (!this.touched) this.field.focus({preventScroll: true});
  }

  /** @typedef {{name: string, value?: any}} Mark @param {Array<{start: number, end: number} & Mark>} marks */
  mark(marks) {
    const text = this.text;
    this.pieces = divide(text.length, marks);
    const children = this.pieces.map(piece => {
      const part = text.slice(piece.start, piece.end);
      if (!piece.marks.length) return document.createTextNode(part);
      piece.element = make('span', {class: piece.marks.map(mark => mark.name).join(' ')}, part);
      return piece.element;
    });
    this.mirror.replaceChildren(...children, '\u200b');
  }

  /** Put in pasted text at once: a browser lays out the page again for each line that it inserts by itself. */
  paste(event, {onBreak, onInput}) {
    const text = event.clipboardData?.getData('text/plain');
    if (!text) return;
    event.preventDefault();
    onBreak();
    this.field.setRangeText(normalise(text), this.field.selectionStart, this.field.selectionEnd, 'end');
    this.fit();
    onInput();
    onBreak();
    this.reveal(this.selection.end);
  }

  /** As high as its text: the page scrolls, the field does not. */
  fit() {
    const page = document.scrollingElement, top = page.scrollTop;
    this.field.style.height = 'auto';
    this.field.style.height = `${this.field.scrollHeight}px`;
    page.scrollTop = top;
  }

  hover(event, tell) {
    const under = document.elementsFromPoint(event.clientX, event.clientY).find(element => element.parentNode === this.mirror);
    const piece = under && this.pieces.find(one => one.element === under);
    tell(piece?.marks ?? [], under ?? null);
  }

  /** The piece with the mark of that name at a place. */
  findPiece(place, name) {
    const has = piece => piece.marks.some(mark => mark.name.split(' ')[0] === name);
    return this.pieces.find(piece => piece.start <= place && place < piece.end && has(piece))
      ?? this.pieces.find(piece => piece.end === place && has(piece));
  }

  /** Bring a place of the text into view, above what covers the foot of the page. */
  reveal(place) {
    const piece = this.pieces.findLast(one => one.start < place) ?? this.pieces[0];
    if (!piece) return;
    const range = document.createRange();
    const node = piece.element?.firstChild ?? this.mirror.childNodes[this.pieces.indexOf(piece)];
    const offset = Math.max(0, Math.min(place - piece.start, node.length) - 1);
    range.setStart(node, offset);
    range.setEnd(node, Math.min(offset + 1, node.length));
    const box = range.getBoundingClientRect(), foot = get('dock').getBoundingClientRect().top;
    if (box.bottom > foot - 24) window.scrollBy({top: box.bottom - foot + 48});
    else if (box.top < 24) window.scrollBy({top: box.top - 80});
  }
}
