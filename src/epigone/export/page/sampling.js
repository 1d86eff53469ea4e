// Probabilities of the next token, and a draw from them that depends on the seed and the place alone.

import {exp} from './model.js';

// A number from 0 to below 1 for each seed and place (a hash by multiplications, after MurmurHash3's last steps).
export function draw(seed, place) {
  const mix = (value, salt) => {
    let h = (value ^ salt) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  };
  const first = mix(mix(seed, 0x9e3779b9) + place, 0x7f4a7c15), second = mix(first + place, 0x3c6ef372);
  return ((first >>> 5) * 67108864 + (second >>> 6)) / 9007199254740992;
}

// softmax of the logits at a temperature, in `into`
export function findProbabilities(logits, temperature, into) {
  let most = -Infinity, sum = 0;
  for (let i = 0; i < logits.length; i += 1) most = Math.max(most, logits[i]);
  for (let i = 0; i < logits.length; i += 1) sum += into[i] = exp((logits[i] - most) / temperature);
  for (let i = 0; i < logits.length; i += 1) into[i] /= sum;
  return into;
}

// the most likely tokens, the best first; of equal ones the first
export function listLikeliest(probabilities, count) {
  if (count > 256) {
    return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b).slice(0, count);
  }
  const best = [];
  for (let id = 0; id < probabilities.length; id += 1) {
    if (best.length === count && probabilities[id] <= probabilities[best[count - 1]]) continue;
    let place = Math.min(best.length, count - 1);
    while (place > 0 && probabilities[best[place - 1]] < probabilities[id]) { best[place] = best[place - 1]; place -= 1; }
    best[place] = id;
  }
  return best;
}

// Draws among the most likely tokens that together have the probability topP.
export function pick(probabilities, topP, number) {
  let best = [], sum = 0, n = 0;
  for (let count = 32; ; count *= 8) {
    best = listLikeliest(probabilities, Math.min(count, probabilities.length));
    for (sum = 0, n = 0; n < best.length && sum < topP; n += 1) sum += probabilities[best[n]];
    if (sum >= topP || best.length === probabilities.length) break;
  }
  let rest = number * sum;
  for (const id of best.slice(0, n)) {
    rest -= probabilities[id];
    if (rest < 0) return id;
  }
  return best[n - 1];
}

// The next token after the model's logits: what was drawn, its probability under the model, and the likeliest ones,
// where `only` is given under the condition that it is one of them.
export function chooseToken(logits, {temperature, topP, seed, place, forbidden, only = null}, room) {
  const allowed = room.allowed;
  allowed.set(logits);
  if (only) for (let id = 0; id < only.length; id += 1) if (!only[id]) allowed[id] = -Infinity;
  const plain = findProbabilities(allowed, 1, room.plain), likeliest = listLikeliest(plain, 10);
  const top = likeliest.filter(id => plain[id] > 0).map(id => [id, plain[id]]);
  let id;
  for (const each of forbidden) allowed[each] = -Infinity;
  if (temperature === 0) [id] = listLikeliest(allowed, 1);
  else id = pick(findProbabilities(allowed, temperature, room.heated), topP, draw(seed, place));
  return {id, probability: plain[id], top};
}

export function makeRoom(size) {
  return {plain: new Float64Array(size), heated: new Float64Array(size), allowed: new Float64Array(size)};
}
