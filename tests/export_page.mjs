// What the exported page computes, without a browser: run by helpers_export.py in a copy of the page's folder.
// A job as JSON on standard input, answers as JSON in the file that is named.

import {readFileSync, writeFileSync} from 'node:fs';
import {Model, Writer, exp} from './model.js';
import {chooseToken, draw, findProbabilities, listLikeliest, makeRoom, pick} from './sampling.js';
import {TextReader, Tokenizer} from './tokenizer.js';

const {page, texts = [], prompts = [], spaced = [], length = 0, kernel = true, seeds = [], temperature = 0.8} = JSON.parse(readFileSync(0, 'utf8'));
const html = readFileSync(page, 'utf8');
const find = id => html.match(new RegExp(`id="${id}">([^<]*)<`))[1];
const header = JSON.parse(find('header'));
const code = Buffer.from(find('kernel'), 'base64');

const began = performance.now();
const model = new Model(header.shape, header.nBytes, kernel ? new WebAssembly.Module(code) : null);
model.weights.set(Buffer.from(find('weights'), 'base64'));
const Kind = header.wideMerges ? Uint32Array : Uint16Array;
const tokenizer = new Tokenizer(header, new Kind(model.weights.slice(model.end).buffer));
const room = makeRoom(header.shape.nVocabulary);
const loaded = performance.now() - began;

function write(prompt, seed, heat, first = null) {
  const writer = new Writer(model), found = [];
  writer.begin(prompt);
  for (let place = 0; place < length; place += 1) {
    while (!writer.step());
    const how = {temperature: heat, seed, topP: header.topP, place, forbidden: header.hidden, only: place ? null : first};
    found.push(chooseToken(model.logits.values, how, room));
    writer.push(found.at(-1).id);
  }
  return found;
}

const answer = {header: {...header, tokens: header.tokens.length}, valid: WebAssembly.validate(code), loaded};
answer.ids = texts.map(text => tokenizer.encode(text));
answer.texts = answer.ids.map(ids => {
  const reader = new TextReader(tokenizer);
  return ids.map(id => reader.read(id)).join('');
});
answer.logits = prompts.map(prompt => {
  const writer = new Writer(model);
  writer.begin(prompt);
  while (!writer.step());
  return [...model.logits.values];
});
const start = performance.now();
answer.greedy = prompts.map(prompt => write(prompt, 0, 0).map(({id}) => id));
answer.spaced = spaced.map(text => {
  const {ids, only} = tokenizer.encodePrompt(text);
  return {ids, tokens: write(ids, 0, 0, only).map(({id}) => id), top: write(ids, 0, 0, only)[0].top};
});
answer.rate = 1000 * prompts.length * length / (performance.now() - start);
answer.sampled = seeds.map(seed => write(header.start, seed, temperature));
answer.exp = [-690, -20.5, -1, -1e-9, 0, 0.3, 1, 20, 600].map(x => [exp(x), Math.exp(x)]);
answer.draws = Array.from({length: 4000}, (_, place) => draw(7, place));
const shares = findProbabilities([3, 1, 2, 2, -Infinity], 0.5, new Float64Array(5));
answer.shares = [...shares];
answer.likeliest = [listLikeliest(shares, 3), listLikeliest(shares, 300)];
answer.picked = answer.draws.map(number => pick(shares, 0.95, number));
writeFileSync(process.argv[2], JSON.stringify(answer));
