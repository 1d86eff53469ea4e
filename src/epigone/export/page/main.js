// The page: unpacks the model, writes in short turns so that the page stays alive, and shows what could have followed.

import {Model, Writer} from './model.js';
import {chooseToken, makeRoom} from './sampling.js';
import {TextReader, Tokenizer} from './tokenizer.js';

const TURN = 24;  // milliseconds of writing between two looks at what the reader does
const SENTENCE_END = /[.!?…]["'”’»)\]_*]*\s*$/u, LINE_END = /\n\s*$/;
const get = id => document.getElementById(id);

export function readHeader() { return JSON.parse(get('header').textContent); }

// base64 into bytes, in pieces, so that the page can be drawn meanwhile
export async function unpack(element, bytes, pause) {
  const text = element.textContent, step = 1 << 20;
  for (let from = 0, at = 0; from < text.length; from += step) {
    const piece = atob(text.slice(from, from + step));
    for (let i = 0; i < piece.length; i += 1) bytes[at + i] = piece.charCodeAt(i);
    at += piece.length;
    await pause();
  }
  element.remove();
}

const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
export const pause = () => new Promise(done => { waiting.push(done); channel.port2.postMessage(0); });

async function compile() {
  const code = get('kernel').textContent.trim(), bytes = new Uint8Array(atob(code).length);
  await unpack(get('kernel'), bytes, pause);
  try { return new WebAssembly.Module(bytes); } catch { return null; }  // without SIMD, or forbidden
}

export async function load() {
  const header = readHeader(), model = new Model(header.shape, header.nBytes, await compile());
  await unpack(get('weights'), model.weights, pause);
  const Kind = header.wideMerges ? Uint32Array : Uint16Array;
  const merges = new Kind(model.weights.slice(model.end).buffer);
  return {header, model, tokenizer: new Tokenizer(header, merges)};
}

class Page {
  constructor({header, model, tokenizer}) {
    Object.assign(this, {header, tokenizer, model});
    this.writer = new Writer(model);
    this.room = makeRoom(header.shape.nVocabulary);
    this.written = [];  // {id, probability, top, text, element}
    this.turn = 0;  // counts what was begun, so that what is outdated stops
  }

  read() {
    const number = id => Number(get(id).value) || 0;
    return {temperature: number('temperature'), length: number('length'), seed: number('seed') >>> 0};
  }

  begin() {
    const {tokenizer, header} = this, prompt = get('prompt').value, {ids, only} = tokenizer.encodePrompt(prompt);
    this.prompt = ids.length ? ids : header.start;
    this.only = only;
    this.written = [];
    const given = document.createElement('span');
    given.className = 'given';
    given.textContent = prompt;
    get('text').replaceChildren(given);
    this.goOn();
  }

  // the text up to a token goes on from there, with another one in its place
  replace(place, id) {
    const old = this.written[place], probability = old.top.find(([other]) => other === id)?.[1] ?? 0;
    for (const {element} of this.written.splice(place)) element.remove();
    this.restart();
    this.show({id, probability, top: old.top});
    this.goOn();
  }

  restart() {
    this.reader = new TextReader(this.tokenizer);
    for (const id of [...this.prompt, ...this.written.map(({id}) => id)]) this.reader.read(id);
    this.writer.begin([...this.prompt, ...this.written.map(({id}) => id)]);
  }

  async goOn() {
    const turn = ++this.turn, {length} = this.read(), began = performance.now();
    this.setBusy(true);
    if (!this.written.length || this.writer.ids.length !== this.prompt.length + this.written.length) this.restart();
    const first = this.written.length;
    let rest = performance.now();
    while (this.turn === turn && !this.isDone(this.written.length - first, length)) {
      while (!this.writer.step()) {
        if (performance.now() - rest > TURN) { await pause(); rest = performance.now(); }
        if (this.turn !== turn) return;
      }
      const {temperature, seed} = this.read(), {header} = this;
      const place = this.written.length, only = place ? null : this.only;
      const how = {temperature, seed, topP: header.topP, place, forbidden: header.hidden, only};
      this.show(chooseToken(this.model.logits.values, how, this.room));
      if (performance.now() - rest > TURN) { await pause(); rest = performance.now(); }
    }
    if (this.turn !== turn) return;
    const n = this.written.length - first, seconds = (performance.now() - began) / 1000;
    this.setBusy(false, `${n} tokens, ${Math.round(n / seconds)} per second.`);
  }

  // after the length at the end of a sentence or line, if one comes soon enough
  isDone(n, length) {
    if (n < length) return false;
    if (n >= 1.5 * length + 60) return true;
    const end = this.written.slice(-8).map(({text}) => text).join('');
    return (this.header.stopAt === 'line' ? LINE_END : SENTENCE_END).test(end);
  }

  show({id, probability, top}) {
    const element = document.createElement('span'), place = this.written.length;
    const text = this.reader.read(id).slice(this.countTaken(place));
    const surprise = -Math.log2(Math.max(probability, 1e-12));
    element.className = `token s${Math.min(4, Math.floor(surprise / 3))}`;
    element.textContent = text;
    element.dataset.place = place;
    this.written.push({id, probability, top, text, element});
    this.writer.push(id);
    get('text').append(element);
  }

  // characters of a token that the prompt had already
  countTaken(place) { return place || !this.only ? 0 : 1; }

  stop() {
    this.turn += 1;
    this.setBusy(false, 'Stopped.');
  }

  setBusy(busy, state = 'Writing …') {
    get('text').setAttribute('aria-busy', String(busy));
    get('state').textContent = state;
    get('stop').hidden = !busy;
    for (const id of ['more', 'other', 'copy']) get(id).disabled = busy || !this.written.length;
    get('write').disabled = busy;
  }

  // -- what could have followed

  open(place, {focus = false} = {}) {
    const token = this.written[place], box = get('choices'), list = document.createElement('ol');
    if (!token) return;
    this.mark(place);
    const title = document.createElement('p');
    title.className = 'quiet';
    title.textContent = `Here ${percent(token.probability)} for ${name(token.text || this.spell(token.id, place))}. `
      + 'Choose another, and the text goes on from there.';
    const shown = token.top.some(([id]) => id === token.id) ? token.top : [...token.top, [token.id, token.probability]];
    const most = Math.max(...shown.map(([, probability]) => probability));
    for (const choice of shown) list.append(this.makeChoice(place, choice, choice[0] === token.id, most));
    box.replaceChildren(title, list);
    box.hidden = false;
    const word = token.element.getBoundingClientRect(), size = box.getBoundingClientRect();
    const below = word.bottom + size.height + 8 < innerHeight;
    box.style.left = `${Math.max(8, Math.min(word.left, innerWidth - size.width - 8))}px`;
    box.style.top = `${below ? word.bottom + 4 : Math.max(8, word.top - size.height - 4)}px`;
    const hidden = word.bottom - box.getBoundingClientRect().top;  // on a phone the list is at the foot
    if (innerWidth < 640 && hidden > 0) scrollBy(0, hidden + 8);
    if (focus) list.querySelector('button').focus();
  }

  makeChoice(place, [id, probability], isChosen, most) {
    const item = document.createElement('li'), button = document.createElement('button');
    const [word, bar, number] = ['bdi', 'progress', 'span'].map(tag => document.createElement(tag));
    word.textContent = name(this.spell(id, place));
    bar.className = 'share';
    bar.max = most;
    bar.value = probability;
    bar.setAttribute('aria-hidden', 'true');
    number.className = 'number';
    number.textContent = percent(probability);
    button.type = 'button';
    if (isChosen) button.setAttribute('aria-current', 'true');
    button.append(word, bar, number);
    button.onclick = () => { this.close(); get('text').focus(); this.replace(place, id); };
    item.append(button);
    return item;
  }

  spell(id, place) { return new TextDecoder().decode(this.tokenizer.bytes[id]).slice(this.countTaken(place)); }

  mark(place) {
    this.written[this.at]?.element.classList.remove('at');
    this.at = place;
    this.written[place]?.element.classList.add('at');
  }

  close() {
    get('choices').hidden = true;
    this.mark(-1);
  }
}

const percent = share => share < 0.0001 ? '< 0.01 %' : `${share < 0.1 ? (100 * share).toPrecision(2) : Math.round(100 * share)} %`;
const SIGNS = {'\n': '↵', '\t': '⇥', '\r': '␍'};
const name = text => (text.replace(/[\n\t\r]/g, sign => SIGNS[sign]).replace(/^ /, '␣').replace(/ $/, '␣')) || '∅';

function connect(page) {
  const text = get('text'), choices = get('choices');
  const placeOf = event => {
    const place = event.target.closest?.('.token')?.dataset.place;
    return place === undefined ? -1 : Number(place);
  };
  get('form').onsubmit = event => { event.preventDefault(); page.close(); page.begin(); };
  get('more').onclick = () => { page.close(); page.goOn(); };
  get('other').onclick = () => { get('seed').value = (page.read().seed + 1) >>> 0; page.close(); page.begin(); };
  get('stop').onclick = () => page.stop();
  get('copy').onclick = () => copy();
  get('prompt').onkeydown = event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) get('form').requestSubmit();
  };
  get('tint').onchange = event => text.classList.toggle('tinted', event.target.checked);
  for (const id of ['temperature', 'length']) {
    const show = () => { get(`${id}-shown`).value = id === 'length' ? get(id).value : Number(get(id).value).toFixed(2); };
    get(id).oninput = show;
    show();
  }
  text.onclick = event => { if (placeOf(event) >= 0) page.open(placeOf(event)); };
  let pointing = 0, last = '';
  text.onpointermove = event => {
    const spot = `${event.clientX} ${event.clientY}`, place = placeOf(event);
    if (spot === last) return;  // the text has moved, not the pointer
    last = spot;
    clearTimeout(pointing);
    if (event.pointerType === 'mouse' && place >= 0 && place !== page.at) pointing = setTimeout(() => page.open(place), 120);
  };
  text.onkeydown = event => moveByKey(page, event);
  document.addEventListener('keydown', event => { if (event.key === 'Escape' && !choices.hidden) { page.close(); text.focus(); } });
  document.addEventListener('pointerdown', event => {
    last = `${event.clientX} ${event.clientY}`;
    clearTimeout(pointing);
    if (!event.target.closest?.('#choices, .token')) page.close();
  });
  let leaving = 0;
  const leave = () => {
    clearTimeout(pointing);
    leaving = setTimeout(() => { if (!choices.contains(document.activeElement)) page.close(); }, 300);
  };
  const stay = () => clearTimeout(leaving);
  for (const element of [text, choices]) {
    element.addEventListener('pointerleave', event => { if (event.pointerType === 'mouse') leave(); });
    element.addEventListener('pointerenter', stay);
  }

  async function copy() {
    const whole = text.textContent;
    try { await navigator.clipboard.writeText(whole); get('state').textContent = 'Copied.'; } catch {
      getSelection().selectAllChildren(text);
      get('state').textContent = 'Marked: copy it with your keys or menu.';
    }
  }
}

function moveByKey(page, event) {
  const last = page.written.length - 1, at = page.at >= 0 ? page.at : -1;
  const to = {ArrowRight: at + 1, ArrowLeft: at < 0 ? last : at - 1, Home: 0, End: last}[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey || last < 0) return;
  if (to !== undefined) {
    event.preventDefault();
    page.open(Math.max(0, Math.min(last, to)));
    page.written[page.at].element.scrollIntoView({block: 'nearest'});
  } else if (event.key === 'Enter' && at >= 0) {
    event.preventDefault();
    page.open(at, {focus: true});
  }
}

async function start() {
  get('temperature').value = readHeader().temperature;
  try {
    const page = new Page(await load());
    connect(page);
    get('write').disabled = false;
    get('state').textContent = page.model.isFast ? 'Ready.' : 'Ready. This browser has no SIMD, so it writes slowly.';
  } catch (error) {
    get('state').textContent = `The model could not be loaded: ${error.message}. A browser of 2021 or later is needed.`;
  }
}

if (typeof document !== 'undefined' && get('header')) start();
