// How surprising each word of a text is to a model, as colours behind the words.

import {ask} from './api.js';
import {get, make} from './dom.js';
import {convertPlaces, findTail, normalise, readTop} from './tokens.js';

/** Characters that are coloured, those before the cursor of a longer text. */
const MOST_TEXT = 12_000;
/** From how many bits on a colour begins: one bit is a coin toss, ten bits one word in a thousand. */
export const BITS = [2, 4, 7, 10, 14];

/** Which colour a token gets, 0 to 5. @param {number} logp nats */
export function findLevel(logp) {
  const bits = -logp / Math.LN2;
  return BITS.filter(limit => bits >= limit).length;
}

/**
 * The tokens of a text with what was expected in their places.
 * @param {string} model @param {string} text @param {number} caret @param {AbortSignal} signal
 * @returns {Promise<{start: number, bits: number,
 *   marks: Array<{start: number, end: number, name: string, value: import('./tokens.js').Token}>}>}
 */
export async function score(model, text, caret, signal) {
  const upTo = text.length > MOST_TEXT ? Math.max(caret, MOST_TEXT) : text.length;
  const start = findTail(text.slice(0, upTo), MOST_TEXT), part = text.slice(start, upTo);
  const answer = await ask('/v1/score', {model, text: part, logprobs: 10}, {signal});
  const {tokens, token_logprobs: logps, top_logprobs: tops, text_offset: offsets} = answer.logprobs;
  const places = [...convertPlaces(part, offsets), part.length], marks = [];
  let first = 0, logp = 0;
  tokens.forEach((_name, i) => {
    logp += logps[i] ?? 0;
    if (places[i + 1] === places[i]) return;  // a part of a character: its surprise counts with the rest of it
    const token = {text: normalise(part.slice(places[i], places[i + 1])), logp, top: readTop(tops[first] ?? tops[i])};
    marks.push({start: start + places[i], end: start + places[i + 1], name: `surprise s${findLevel(logp)}`, value: token});
    [first, logp] = [i + 1, 0];
  });
  return {start, marks, bits: answer.bits_per_byte};
}

/** Say what the colours mean. @param {number|null} bits of the whole text in bits per byte; null hides it */
export function showLegend(bits, part) {
  const box = get('legend');
  box.hidden = bits === null;
  if (bits === null) return;
  const words = ['expected', '', '', 'unusual', '', 'very surprising'];
  const keys = words.map((word, level) => make('span', {class: `surprise key s${level}`}, word || '\u00a0'));
  const where = part ? ', in the part before the cursor' : '';
  box.replaceChildren('To this model: ', ...keys, ` ${bits.toFixed(2)} bits per byte${where}; less is more familiar.`);
}
