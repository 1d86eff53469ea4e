// What the served page computes, without a browser: run by test_serve_files.py in a copy of its folder.

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {EventParser} from './api.js';
import {findTicks} from './curves.js';
import {findOrder, Generation} from './generation.js';
import {LONGEST_PROMPT, makeFragment, readFragment} from './link.js';
import {applyPatch, divide, findCaret, findPassageEnd, findPatch, findSpan, patchSpans, placeTokens} from './spans.js';
import {findLevel} from './surprise.js';
import {nameText, StorageError, Texts} from './texts.js';
import {convertPlaces, findTail, isText, percent, readTokens, show} from './tokens.js';
import {exportText, importText} from './transfer.js';
import {Tree} from './tree.js';

const token = text => ({text, logp: -1, top: [[text, -1], [' other', -2]]});
const random = (seed => () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648)(7);

class Storage {
  constructor(most = Infinity) { this.items = new Map(); this.most = most; }
  getItem(key) { return this.items.get(key) ?? null; }
  removeItem(key) { this.items.delete(key); }
  setItem(key, value) {
    if (value.length > this.most) throw new Error('QuotaExceededError');
    this.items.set(key, value);
  }
}

function grow() {
  const tree = new Tree();
  tree.edit('It was', 0);
  const start = tree.at;
  const [one, two] = [' a dark', ' the best'].map(text => tree.add('model', {at: 6, del: 0, ins: text},
    {tokens: text.match(/ \w+/g).map(token), origin: {model: 'novel', seed: 3}, stay: true, parent: start}));
  tree.goTo(two);
  return {tree, start, one, two};
}

test('a patch makes one text of the other, whatever they are', () => {
  for (let i = 0; i < 300; i += 1) {
    const make = () => Array.from({length: Math.floor(12 * random())}, () => 'ab\n😀'[Math.floor(5 * random())]).join('');
    const [before, after] = [make(), make()], patch = findPatch(before, after);
    assert.equal(applyPatch(before, patch), after);
  }
});

test('after a step back the cursor is where something went, forward at the end of what came', () => {
  const short = 'He came to me.', long = 'He came to me. It took a minute me.';
  assert.equal(findCaret(long, short), short.length, 'and not within the word that both end with');
  assert.equal(findCaret(short, long), long.length);
  assert.equal(findCaret('one two three', 'one three'), 4, 'and not behind the t that both have');
  assert.equal(findCaret('one three', 'one two three'), 8);
  assert.equal(findCaret('abcd', 'abXcd'), 3, 'within a word where the change was');
  assert.equal(findCaret('abXcd', 'abcd'), 2);
  assert.equal(findCaret('', ''), 0);
});

test('spans hold their words through any edit, or go', () => {
  let text = 'one two three four', spans = placeTokens(['one', ' two', ' three', ' four'].map(token), 0, 1);
  for (let i = 0; i < 200; i += 1) {
    const at = Math.floor(random() * (text.length + 1)), del = Math.floor(random() * Math.min(4, text.length - at + 1));
    const patch = {at, del, ins: 'xy'.slice(Math.floor(3 * random()))};
    [text, spans] = [applyPatch(text, patch), patchSpans(spans, patch, [], 2)];
    for (const span of spans) assert.equal(text.slice(span.start, span.end), span.token.text);
  }
  const typed = patchSpans(placeTokens([token('one')], 0, 1), {at: 1, del: 0, ins: 'x'}, [], 2);
  assert.deepEqual(typed, [], 'a word that was typed into is not the model’s any more');
});

test('a passage ends where another state or the writer goes on', () => {
  const spans = [...placeTokens([token('a'), token('b')], 0, 1), ...placeTokens([token('c')], 2, 2)];
  assert.equal(findPassageEnd(spans, spans[0]), 2);
  assert.equal(findSpan(spans, 1), spans[1]);
  assert.equal(findSpan(spans, 3), spans[2]);
  assert.equal(findSpan([], 0), null);
});

test('marks divide a text without a gap', () => {
  const pieces = divide(10, [{start: 2, end: 6, name: 'x'}, {start: 4, end: 12, name: 'y'}, {start: 3, end: 3, name: 'z'}]);
  assert.deepEqual(pieces.map(piece => [piece.start, piece.end, piece.marks.map(mark => mark.name).join()]),
    [[0, 2, ''], [2, 4, 'x'], [4, 6, 'x,y'], [6, 10, 'y']]);
  assert.deepEqual(divide(0, []), []);
});

test('back and forward come to every state again', () => {
  const {tree, start, one, two} = grow();
  assert.equal(tree.text(), 'It was the best');
  tree.step(-1);
  assert.equal(tree.text(), 'It was a dark');
  tree.step(-1);
  assert.equal(tree.at, one, 'there is nothing before the first sibling');
  tree.back();
  assert.equal(tree.at, start);
  tree.forward();
  assert.equal(tree.at, one, 'forward goes where one has been last');
  tree.goTo(two);
  assert.deepEqual(tree.spans().map(span => span.token.text), [' the', ' best']);
});

test('going back and writing on keeps what was there', () => {
  const {tree, start} = grow();
  tree.goTo(start);
  tree.edit('It was I', 1e6);
  assert.equal(tree.children(start).length, 3);
  assert.deepEqual(tree.siblings().map(state => tree.text(state.id)), ['It was a dark', 'It was the best', 'It was I']);
});

test('typing without a pause is one state; a pause, another place or much text begins one', () => {
  const tree = new Tree();
  ['a', 'ab', 'abc'].forEach((text, i) => tree.edit(text, 100 * i));
  assert.equal(tree.states.size, 2);
  tree.edit('abcd', 10_000);
  assert.equal(tree.states.size, 3);
  tree.edit(`abcd${'e'.repeat(100)}`, 10_100);
  assert.equal(tree.states.size, 4);
  tree.edit(`Xabcd${'e'.repeat(100)}`, 10_200);
  assert.equal(tree.states.size, 5);
  assert.equal(tree.edit(tree.text()), false);
  tree.seal();
  tree.edit(`${tree.text()} pasted`, 10_250);
  assert.equal(tree.states.size, 6);
});

test('an edit far from a model’s words leaves them its own', () => {
  const {tree} = grow();
  tree.edit('So it was the best', 1e6);
  tree.edit('So it was the best!', 1e6 + 10);
  assert.deepEqual(tree.spans().map(span => [span.start, span.token.text]), [[9, ' the'], [13, ' best']]);
});

test('the outline names what was written and where it branches', () => {
  const {tree, two} = grow(), rows = tree.outline();
  assert.deepEqual(rows.map(row => [row.label, row.depth, row.kind]),
    [['the beginning', 0, 'start'], ['It was', 0, 'edit'], ['a dark', 1, 'model'], ['the best', 1, 'model']]);
  assert.deepEqual(rows.filter(row => row.current).map(row => row.id), [two]);
});

test('a tree of many states drops the oldest and keeps the text', () => {
  const tree = new Tree();
  let text = '';
  for (let i = 0; i < 4100; i += 1) tree.edit(text += 'x\n', 1e4 * i);
  assert.equal(tree.text(), text);
  assert.ok(tree.states.size <= 4000);
  while (tree.canGoBack()) tree.back();
  assert.ok(text.startsWith(tree.text()));
});

test('a saved tree is the same again; without its likeliest words it is smaller', () => {
  const {tree} = grow(), again = Tree.unpack(JSON.parse(JSON.stringify(tree.pack())));
  assert.equal(again.text(), tree.text());
  assert.deepEqual(again.spans(), tree.spans());
  assert.equal(again.outline().length, tree.outline().length);
  assert.ok(JSON.stringify(tree.pack('none')).length < JSON.stringify(tree.pack('path')).length);
  assert.ok(JSON.stringify(tree.pack('path')).length < JSON.stringify(tree.pack('all')).length);
});

test('what is no tree is refused, whatever it is', () => {
  const good = JSON.stringify(grow().tree.pack());
  const spoil = change => { const value = JSON.parse(good); change(value); return value; };
  const bad = [null, 3, [], {}, {states: []}, {at: 0, states: [null]},
    spoil(tree => { tree.at = 99; }), spoil(tree => { tree.states[1].parent = 7; }), spoil(tree => { tree.states[1].id = 0; }),
    spoil(tree => { tree.states[1].kind = '<b>'; }), spoil(tree => { tree.states[1].patch.at = -1; }),
    spoil(tree => { tree.states[2].tokens = [[1]]; }),
    spoil(tree => { tree.states[2].tokens[0][2] = ['x', 'y']; }), spoil(tree => { tree.states[2].origin = {model: {}, seed: 1}; })];
  for (const value of bad) assert.throws(() => Tree.unpack(value), TypeError);
});

test('texts are kept, listed, and shortened by their history before they are lost', () => {
  const storage = new Storage(), texts = new Texts(storage), {tree} = grow();
  texts.save('a', '', tree, 1);
  texts.save('b', 'Named', tree, 1);
  assert.deepEqual(texts.list().map(entry => entry.name).sort(), ['It was the best', 'Named']);
  assert.equal(texts.load('a').text(), 'It was the best');
  texts.remove('a');
  assert.equal(texts.load('a'), null);
  const small = new Texts(new Storage(500));
  small.save('a', '', tree, 1);
  assert.equal(small.load('a').text(), 'It was the best');
  assert.ok(small.load('a').states.size < tree.states.size);
  assert.throws(() => new Texts(new Storage(10)).save('a', '', tree, 1), StorageError);
  storage.setItem('epigone:texts', '[null, 3, {"id": 1}]');
  assert.deepEqual(new Texts(storage).list(), []);
  assert.equal(nameText('', '\n'), 'Untitled');
});

test('an exported text is the same when it is imported; other files are refused', () => {
  const {tree} = grow(), {data, name} = exportText('json', {title: 'A / B', tree}), read = importText(data);
  assert.equal(name, 'A  B.json');
  assert.equal(read.title, 'A / B');
  assert.equal(read.tree.text(), tree.text());
  assert.equal(exportText('txt', {title: 'x', tree}).data, tree.text());
  const markdown = exportText('md', {title: '# <b>', tree: new Tree('1. *a*\nb\n\n<img>')}).data;
  assert.equal(markdown, '# \\# \\<b\\>\n\n1\\. \\*a\\*  \nb\n\n\\<img\\>\n');
  for (const wrong of ['', '{}', '[]', '{"format":"epigone-text","version":9}', '{"format":"epigone-text","tree":{}}']) {
    assert.throws(() => importText(wrong), TypeError);
  }
});

test('a stream is read wherever it is cut', () => {
  const bytes = new TextEncoder().encode('data: {"a":"é😀"}\n\n: still here\n\ndata: 1\r\ndata: 2\r\n\r\ndata: [DONE]\n\n');
  for (let size = 1; size < bytes.length; size += 1) {
    const parser = new EventParser(), found = [];
    for (let at = 0; at < bytes.length; at += size) found.push(...parser.push(bytes.slice(at, at + size)));
    assert.deepEqual(found, ['{"a":"é😀"}', '1\n2', '[DONE]']);
  }
});

test('tokens are read with their likeliest, and shown so that all can be seen', () => {
  const top_logprobs = [{'10': -3, b: -0.5, __proto__x: -2}];
  const [one] = readTokens({text: 'a\r\nb', logprobs: {tokens: ['x'], token_logprobs: [-0.5], top_logprobs}});
  assert.deepEqual(one, {text: 'a\nb', logp: -0.5, top: [['b', -0.5], ['__proto__x', -2], ['10', -3]]});
  assert.deepEqual(readTokens({text: '', logprobs: null}), []);
  assert.deepEqual([' ', '\n', '\n\n', ' the', 'bytes:\\xe2', '<|endoftext|>'].map(show),
    ['space', 'new line', 'empty line', 'the', 'part of a character', 'end of the text']);
  assert.deepEqual(['bytes:\\xe2\\x80', '<|endoftext|>', ' the', 'bytes:'].map(isText), [false, false, true, true]);
  assert.deepEqual([-0.1, -3, -6, -20].map(percent), ['90 %', '5.0 %', '0.25 %', 'below 0.01 %']);
});

test('places in characters become places in the string', () => {
  const text = 'a😀b\u{1F600}';
  assert.deepEqual(convertPlaces(text, [0, 1, 2, 3, 4, 9]), [0, 1, 3, 4, 6, 6]);
  assert.equal(text.slice(findTail(text, 1)), '');
  assert.equal(text.slice(findTail(text, 2)), '\u{1F600}');
});

test('a continuation begins before the space at the cursor, and replaces what is selected', () => {
  assert.deepEqual(findOrder('It was ', {start: 7, end: 7}), {at: 6, del: 1, prompt: 'It was'});
  assert.deepEqual(findOrder('one two three', {start: 3, end: 7}), {at: 3, del: 4, prompt: 'one'});
  assert.equal(findOrder('line\n', {start: 5, end: 5}).prompt, 'line\n');
  assert.equal(findOrder('x'.repeat(30_000), {start: 30_000, end: 30_000}).prompt.length, 20_000);
});

test('the parts of several continuations go to their own', () => {
  const generation = new Generation({model: '', prompt: '', seed: 1, n: 2, settings: {}}), seen = [];
  for (const [index, text] of [[0, 'a'], [1, 'b'], [0, 'c'], [7, 'x']]) {
    generation.take({index, text, seed: 5 + index}, candidate => seen.push(candidate.index));
  }
  assert.deepEqual(generation.candidates.map(candidate => [candidate.text, candidate.seed]), [['ac', 5], ['b', 6]]);
  assert.deepEqual(seen, [0, 1, 0]);
});

test('a link holds what it was made of; what is no number is left out', () => {
  const settings = {temperature: 0.9, length: 30, stopAt: 'line', guidance: 1.5, mix: 'poe', share: 0.4, maxCopy: '50', words: 'auto'};
  const values = {model: 'my novel', prompt: 'It was\n& “so”', seed: 0, ...settings};
  assert.deepEqual(readFragment(`#${makeFragment(values)}`), values);
  assert.equal(readFragment(''), null);
  assert.deepEqual(readFragment('#s=x&t=&n=3'), {length: 3});
  assert.equal(readFragment(makeFragment({prompt: 'x'.repeat(LONGEST_PROMPT + 1)})), null);
});

test('surprise has six steps, and axes have round numbers', () => {
  assert.deepEqual([0, 3, 5, 8, 12, 20].map(bits => findLevel(-bits * Math.LN2)), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(findTicks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(findTicks(3.1, 4.4), [3.5, 4]);
  assert.deepEqual(findTicks(2, 2).length > 0, true);
});
