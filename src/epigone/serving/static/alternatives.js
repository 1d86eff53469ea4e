// What else could have stood at a place: a small list beside the word, from which one can be taken.

import {get, make} from './dom.js';
import {isText, percent, show} from './tokens.js';

const OPEN_AFTER = 180, CLOSE_AFTER = 300;

export class Popover {
  constructor() {
    this.box = get('popover');
    this.timer = 0;
    this.key = null;
    this.box.addEventListener('pointerenter', () => clearTimeout(this.timer));
    this.box.addEventListener('pointerleave', () => this.leave());
    this.box.addEventListener('keydown', event => this.move(event));
    document.addEventListener('pointerdown', event => !this.box.contains(event.target) && this.close());
    document.addEventListener('scroll', () => this.close(), {passive: true});
  }

  /** Soon, while the pointer rests on something. `key` says what it rests on. @param {() => void} open */
  rest(key, open) {
    if (this.key === key) { clearTimeout(this.timer); return; }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.key = key; open(); }, OPEN_AFTER);
  }

  /** The pointer has gone; it may be on its way to the list. */
  leave() {
    clearTimeout(this.timer);
    if (this.box.contains(document.activeElement)) return;
    this.timer = setTimeout(() => this.close(), CLOSE_AFTER);
  }

  close() {
    clearTimeout(this.timer);
    const focused = this.box.contains(document.activeElement);
    this.box.hidden = true;
    this.key = null;
    if (focused) this.back?.focus({preventScroll: true});
  }

  /** @param {Element} anchor @param {string} label @param {Node[]} content @param {boolean} focus */
  open(anchor, label, content, focus = false) {
    if (!anchor.isConnected) return;  // the text was painted again meanwhile
    this.box.setAttribute('aria-label', label);
    this.box.replaceChildren(...content);
    this.box.hidden = false;
    this.place(anchor);
    this.back = document.activeElement;
    if (focus) (this.box.querySelector('button:not([disabled])') ?? this.box).focus({preventScroll: true});
  }

  place(anchor) {
    const at = anchor.getClientRects()[0] ?? anchor.getBoundingClientRect(), {offsetWidth: width, offsetHeight: height} = this.box;
    const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8));
    const below = at.bottom + 4, above = at.top - height - 4;
    const fits = below + height <= window.innerHeight - 8;
    this.box.style.left = `${left}px`;
    this.box.style.top = `${Math.max(8, fits ? below : above > 8 ? above : window.innerHeight - height - 8)}px`;
  }

  move(event) {
    const buttons = [...this.box.querySelectorAll('button:not([disabled])')], at = buttons.indexOf(document.activeElement);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1}[event.key];
    if (event.key === 'Escape') this.close();
    else if (event.key === 'Tab') this.close();
    else if (to !== undefined) buttons[(to + buttons.length) % buttons.length]?.focus();
    else return;
    event.stopPropagation();
    if (event.key !== 'Tab') event.preventDefault();
  }

  /**
   * The likeliest tokens at a place.
   * @param {Element} anchor @param {import('./tokens.js').Token} token @param {(text: string) => void} take
   */
  showTokens(anchor, token, take, focus = false) {
    const best = token.top.slice(0, 10);
    if (token.logp !== null && !best.some(([name]) => name === token.text)) best.push([token.text, token.logp]);
    const most = Math.max(...best.map(([, logp]) => logp));
    const rows = best.map(([name, logp]) => this.makeRow(name, logp, Math.exp(logp - most), name === token.text, take));
    const hint = best.length
      ? 'Take one, and go on from there. (Models write in pieces of words.)'
      : 'What else could stand here is not kept for this word.';
    this.open(anchor, 'What else could stand here', [make('p', {class: 'quiet'}, hint), make('ol', {class: 'tokens'}, ...rows)], focus);
  }

  makeRow(name, logp, width, chosen, take) {
    const bar = make('i', {'aria-hidden': 'true'});
    bar.style.width = `${100 * width}%`;
    const word = make('bdi', {class: name.trim() && isText(name) ? 'written' : 'quiet', lang: ''}, show(name));
    const label = `${show(name)}, ${percent(logp)}${chosen ? ', it is this one' : ''}`;
    const button = make('button', {type: 'button', disabled: !isText(name), 'aria-label': label},
      word, make('span', {class: 'share'}, bar), make('span', {class: 'number'}, percent(logp)));
    if (chosen) button.setAttribute('aria-current', 'true');
    button.addEventListener('click', () => { this.close(); take(name); });
    return make('li', {}, button);
  }
}
