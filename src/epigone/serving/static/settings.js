// How to go on: temperature, length and ending, style, copies, words and seed; kept in this browser.

import {fillSelect, get, tame} from './dom.js';

const KEY = 'epigone:settings';
/** Words of a continuation, for each position of the slider. */
const LENGTHS = [3, 6, 12, 20, 30, 45, 60, 90, 130, 200, 300];
const START = {
  model: '', temperature: null, length: 30, stopAt: null, guidance: 1, mix: '', share: 0.5, maxCopy: 'none', words: 'auto', seed: null,
};
const ENDINGS = ['sentence', 'line', 'paragraph', 'speech', 'anywhere', 'document'];
const COPIES = ['none', '100', '50', '30'], WORDS = ['auto', 'known', 'any'];
const LARGEST_SEED = 2 ** 32 - 4;

/** @typedef {typeof START} Values `null` of temperature and stopAt: as suits the model. */

export class Settings {
  /** @param {() => void} onChange @param {Storage} storage */
  constructor(onChange, storage = localStorage) {
    Object.assign(this, {onChange, storage});
    /** @type {Values} */
    this.values = {...START, ...read(storage)};
    /** @type {import('./models.js').Model|undefined} */
    this.model = undefined;
    /** @type {import('./models.js').Model[]} */
    this.mixable = [];
    this.listen();
  }

  listen() {
    const on = (id, change) => get(id).addEventListener('input', event => { change(event.target.value); this.changed(); });
    on('temperature', value => { this.values.temperature = Math.abs(value - this.tuned) < 0.024 ? null : Number(value); });
    on('length', value => { this.values.length = LENGTHS[value]; });
    on('stop-at', value => { this.values.stopAt = value; });
    on('guidance', value => { this.values.guidance = Number(value); });
    on('mix', value => { this.values.mix = value; });
    on('share', value => { this.values.share = Number(value); });
    on('max-copy', value => { this.values.maxCopy = value; });
    on('words', value => { this.values.words = value; });
    on('seed', value => { this.values.seed = readSeed(value); });
    get('temperature').addEventListener('dblclick', () => { this.values.temperature = null; this.changed(); });
  }

  get tuned() { return this.model?.temperature ?? 0.8; }

  get ending() {
    const own = this.model?.stop_at ?? 'anywhere';
    return this.values.stopAt ?? (own === 'anywhere' ? 'sentence' : own);
  }

  changed() {
    try {
      this.storage.setItem(KEY, JSON.stringify(this.values));
    } catch { /* without room they last as long as the page */ }
    this.show();
    this.onChange();
  }

  /** Take over what a link asks for, if it can be. @param {Record<string, any>} asked */
  adopt(asked) {
    const {temperature, length, stopAt, guidance, mix, share, maxCopy, words, seed, model} = asked;
    const within = (value, low, high) => value >= low && value <= high;
    const values = {...START, model: model ?? this.values.model};
    if (within(temperature, 0, 2)) values.temperature = temperature;
    if (within(length, 1, 300)) values.length = Math.round(length);
    if (ENDINGS.includes(stopAt)) values.stopAt = stopAt;
    if (within(guidance, 0, 3)) values.guidance = guidance;
    if (mix) values.mix = mix;
    if (within(share, 0, 1)) values.share = share;
    if (COPIES.includes(maxCopy)) values.maxCopy = maxCopy;
    if (WORDS.includes(words)) values.words = words;
    if (within(seed, 0, LARGEST_SEED)) values.seed = Math.round(seed);
    this.values = values;
    this.changed();
  }

  /**
   * @param {import('./models.js').Model|undefined} model
   * @param {import('./models.js').Model[]} [mixable] what it can be mixed with
   */
  useModel(model, mixable = []) {
    this.model = model;
    this.mixable = mixable;
    if (model) this.values.model = model.name;
    this.changed();
  }

  show() {
    const {temperature, length, guidance, maxCopy, words, seed} = this.values, can = this.model?.can ?? {};
    const own = temperature === null, value = own ? this.tuned : temperature;
    get('temperature').value = value;
    get('temperature-value').textContent = value.toFixed(2).replace(/0$/, '');
    get('temperature-help').textContent = own
      ? 'As tuned for this model. Lower is safer, higher is wilder.'
      : `Lower is safer, higher is wilder. The mark shows what was tuned: ${this.tuned.toFixed(2)}.`;
    get('tuned').style.setProperty('--at', String(this.tuned / 2));
    get('length').value = nearest(length);
    get('length').setAttribute('aria-valuetext', `about ${length} words`);
    get('length-value').textContent = `about ${length} words`;
    get('stop-at').value = this.ending;
    get('guidance').value = can.guidance ? guidance : 1;
    get('guidance').disabled = !can.guidance;
    get('guidance-value').textContent = can.guidance ? guidance.toFixed(1) : '';
    get('guidance-help').textContent = can.guidance
      ? '1 is as learned, more is exaggerated, 0 is the model before it learned.'
      : 'Only for models that were tuned from another one.';
    this.showMix();
    get('max-copy').value = can.copies ? maxCopy : 'none';
    get('max-copy').disabled = !can.copies;
    get('max-copy-help').textContent = can.copies
      ? 'Of passages in the training text, in one piece.'
      : 'Only for models whose training text is here.';
    get('words').value = words;
    if (document.activeElement !== get('seed')) get('seed').value = seed ?? '';
  }

  /** The name of the other voice, if the model can be mixed with it; else nothing. */
  get other() { return this.mixable.some(model => model.name === this.values.mix) ? this.values.mix : ''; }

  showMix() {
    const {mixable, other, values: {share}} = this, percent = Math.round(100 * share);
    fillSelect(get('mix'), [['', 'none'], ...mixable.map(model => [model.name, tame(model.name)])], other);
    get('mix').disabled = !mixable.length;
    get('share').hidden = !other;
    get('share').value = share;
    get('share').setAttribute('aria-valuetext', `${percent} % ${tame(other)}`);
    get('share-value').textContent = other ? `${percent} %` : '';
    get('mix-help').textContent = other ? `${100 - percent} % of ${tame(this.model?.name ?? '')}, ${percent} % of ${tame(other)}.`
      : mixable.length ? 'Another voice of the same base, and how much of it.'
      : 'Only with other models that were tuned from the same base.';
  }

  /** The fields of a request, as they suit a model. @param {import('./models.js').Model} model */
  makeRequest(model = this.model) {
    const {temperature, length, guidance, share, maxCopy, words} = this.values, can = model?.can ?? {};
    const mix = model?.name === this.model?.name && share > 0 ? this.other : '';
    return {
      max_tokens: length, unit: 'words', stop_at: this.ending, words,
      ...(temperature === null ? {} : {temperature}),
      ...(can.guidance && guidance !== 1 ? {guidance} : {}),
      ...(mix ? {mix: {[mix]: share}} : {}),
      ...(can.copies && maxCopy !== 'none' ? {max_copy: Number(maxCopy)} : {}),
    };
  }
}

function nearest(length) {
  const distance = words => Math.abs(words - length);
  return LENGTHS.reduce((best, words, i) => distance(words) < distance(LENGTHS[best]) ? i : best, 0);
}

function readSeed(text) {
  const seed = Number(text.trim());
  return text.trim() && Number.isInteger(seed) && seed >= 0 && seed <= LARGEST_SEED ? seed : null;
}

/** A seed that was not asked for. */
export function makeSeed() { return crypto.getRandomValues(new Uint32Array(1))[0] % LARGEST_SEED; }

function read(storage) {
  try {
    const values = JSON.parse(storage.getItem(KEY)) ?? {};
    return Object.fromEntries(Object.entries(values).filter(([name, value]) => name in START && fits(name, value)));
  } catch {
    return {};
  }
}

function fits(name, value) {
  if (name === 'model' || name === 'mix') return typeof value === 'string';
  if (name === 'share') return value >= 0 && value <= 1;
  if (name === 'stopAt') return value === null || ENDINGS.includes(value);
  if (name === 'maxCopy') return COPIES.includes(value);
  if (name === 'words') return WORDS.includes(value);
  if (name === 'length') return LENGTHS.includes(value);
  return (value === null && name !== 'guidance') || Number.isFinite(value);
}
