// The history of a text as a tree: each state is a change to the one before it, and nothing is ever lost by going back.

import {applyPatch, findPatch, patchSpans} from './spans.js';

/**
 * @typedef {import('./spans.js').Patch} Patch
 * @typedef {import('./tokens.js').Token} Token
 * @typedef {{model: string, seed: number}} Origin
 * @typedef {{id: number, parent: number|null, kind: 'start'|'edit'|'model', patch: Patch, tokens: Token[],
 *   origin: Origin|null, time: number, next: number|null}} State `next`: the child that was visited last.
 */

/** Typing without a pause of so many milliseconds, and of at most so many units, is one step of the history. */
const PAUSE = 1200, MOST_TYPED = 80;
const MOST_STATES = 4000, MOST_TEXT = 2_000_000, MOST_CACHED = 60;

export class Tree {
  constructor(text = '') {
    this.cache = new Map();
    this.at = 0;
    this.newest = 0;
    this.replaceStates(new Map([[0, makeState(0, null, 'start', {at: 0, del: 0, ins: text}, 0)]]));
  }

  replaceStates(states) {
    this.states = states;
    this.cache.clear();
    /** @type {Map<number|null, State[]>} */
    this.byParent = new Map();
    for (const state of states.values()) this.link(state);
  }

  link(state) {
    const siblings = this.byParent.get(state.parent);
    if (siblings) siblings.push(state);
    else this.byParent.set(state.parent, [state]);
  }

  /** @returns {State} */
  get current() { return this.states.get(this.at); }

  /** The text of a state. */
  text(id = this.at) { return this.resolve(id).text; }

  /** Which parts of it a model wrote. */
  spans(id = this.at) { return this.resolve(id).spans; }

  /** @returns {{text: string, spans: import('./spans.js').Span[]}} */
  resolve(id) {
    const path = [];
    let state = this.states.get(id);
    while (state && !this.cache.has(state.id)) {
      path.push(state);
      state = state.parent === null ? undefined : this.states.get(state.parent);
    }
    let found = state ? this.cache.get(state.id) : {text: '', spans: []};
    for (const each of path.reverse()) {
      const tokens = each.tokens.length ? each.tokens : [];
      found = {text: applyPatch(found.text, each.patch), spans: patchSpans(found.spans, each.patch, tokens, each.id)};
    }
    this.cache.set(id, found);
    while (this.cache.size > MOST_CACHED) this.cache.delete(this.cache.keys().next().value);
    return found;
  }

  /**
   * The text is now this, by the writer's hand. What is typed without a pause is one state.
   * @returns {boolean} whether anything changed
   */
  edit(text, time = Date.now()) {
    const before = this.text();
    if (text === before) return false;
    const change = findPatch(before, text), current = this.current;
    if (this.continues(current, change, time)) {
      current.patch = findPatch(this.text(current.parent), text);
      current.time = time;
      this.cache.delete(current.id);
      return true;
    }
    this.add('edit', change, {time});
    return true;
  }

  /** What is done next is a state of its own, however soon it is done. */
  seal() { this.current.time = 0; }

  continues(state, change, time) {
    const {at, ins} = state.patch;
    const beside = change.at + change.del >= at && change.at <= at + ins.length;
    return state.kind === 'edit' && !this.children(state.id).length && time - state.time < PAUSE
      && beside && ins.length + change.ins.length <= MOST_TYPED;
  }

  /**
   * A new state after the current one or another, which becomes the current one unless `stay`.
   * @param {'edit'|'model'} kind @param {Patch} patch
   */
  add(kind, patch, {tokens = [], origin = null, time = Date.now(), parent = this.at, stay = false} = {}) {
    const id = this.newest += 1;
    const state = makeState(id, parent, kind, patch, time, tokens, origin);
    this.states.set(id, state);
    this.link(state);
    if (!stay && parent === this.at) {  // the way here is marked already
      this.current.next = id;
      this.at = id;
    } else if (!stay) this.goTo(id);
    if (this.states.size > MOST_STATES) this.forgetOldest();
    return id;
  }

  /** @returns {State[]} in the order in which they were made */
  children(id) { return this.byParent.get(id) ?? []; }

  goTo(id) {
    this.at = id;
    for (let state = this.current; state.parent !== null; state = this.states.get(state.parent)) {
      this.states.get(state.parent).next = state.id;
    }
  }

  canGoBack() { return this.current.parent !== null; }

  back() {
    if (this.canGoBack()) this.at = this.current.parent;
  }

  canGoForward() { return this.children(this.at).length > 0; }

  /** To the state after this one that was visited last. */
  forward() {
    const children = this.children(this.at);
    if (!children.length) return;
    const {id} = children.find(state => state.id === this.current.next) ?? children.at(-1);
    this.current.next = id;
    this.at = id;
  }

  /** The states that follow from the same one, this one too. */
  siblings() { return this.current.parent === null ? [this.current] : this.children(this.current.parent); }

  /** To the next (1) or the last (-1) of these. */
  step(by) {
    const all = this.siblings(), next = all[all.indexOf(this.current) + by];
    if (next) this.goTo(next.id);
  }

  /** The ids from the first state to this one. */
  path(id = this.at) {
    const ids = [];
    for (let state = this.states.get(id); state; state = this.states.get(state.parent)) ids.push(state.id);
    return ids.reverse();
  }

  /**
   * The tree as rows of a list: what a model wrote, where the text branches, the ends and the current state. A row is
   * deeper than the one above it where the text branches.
   */
  outline() {
    const onPath = new Set(this.path()), rows = [];
    const open = [{id: this.path()[0], depth: 0}];
    while (open.length) {
      const {id, depth} = open.pop(), state = this.states.get(id), children = this.children(id);
      const shown = state.kind !== 'edit' || children.length !== 1 || id === this.at;
      if (shown) rows.push({id, depth, kind: state.kind, label: label(state), current: id === this.at, onPath: onPath.has(id)});
      const deeper = depth + (children.length > 1 ? 1 : 0);
      for (const child of children.toReversed()) open.push({id: child.id, depth: deeper});
    }
    return rows;
  }

  /** Drop the oldest states: the one from which half of the way to the current one is left becomes the first. */
  forgetOldest() {
    const path = this.path(), first = path[Math.max(1, Math.floor(path.length / 2))];
    this.keepFrom(first ?? this.at);
  }

  keepFrom(first) {
    const {text, spans} = this.resolve(first), kept = new Map();
    const open = [first];
    while (open.length) {
      const id = open.pop();
      kept.set(id, this.states.get(id));
      open.push(...this.children(id).map(state => state.id));
    }
    kept.set(first, {...this.states.get(first), parent: null, kind: 'start', patch: {at: 0, del: 0, ins: text}, tokens: fill(text, spans)});
    this.replaceStates(kept);
  }

  /** Only the way to the current state and on from there. */
  keepPath() {
    const keep = new Set(this.path());
    this.replaceStates(new Map([...this.states].filter(([id]) => keep.has(id))));
  }

  /** Plain values. `tops`: for which states the likeliest tokens are kept. @param {'all'|'path'|'none'} tops */
  pack(tops = 'all') {
    const onPath = new Set(tops === 'path' ? this.path() : []);
    const states = [...this.states.values()].map(state => {
      const withTop = tops === 'all' || onPath.has(state.id);
      return {...state, tokens: state.tokens.map(token => packToken(token, withTop))};
    });
    return {at: this.at, states};
  }

  /** The tree of plain values that may come from a file. Raises TypeError where they do not fit. */
  static unpack(value) {
    check(value && Array.isArray(value.states) && value.states.length > 0 && value.states.length <= 2 * MOST_STATES);
    const tree = new Tree(), states = new Map();
    for (const raw of value.states) {
      const state = readState(raw);
      check(!states.has(state.id) && (state.parent === null ? !states.size : states.has(state.parent)));
      states.set(state.id, state);
      tree.newest = Math.max(tree.newest, state.id);
    }
    check(states.has(value.at));
    for (const state of states.values()) if (!states.has(state.next)) state.next = null;
    tree.replaceStates(states);
    tree.at = value.at;
    check(tree.text().length <= MOST_TEXT);
    return tree;
  }
}

function makeState(id, parent, kind, patch, time, tokens = [], origin = null) {
  return {id, parent, kind, patch, tokens, origin, time, next: null};
}

function label(state) {
  const text = state.patch.ins.replace(/\s+/g, ' ').trim();
  if (text) return [...text].slice(0, 60).join('');
  return state.patch.del ? 'something was deleted' : state.kind === 'start' ? 'the beginning' : 'empty';
}

/** Tokens for a whole text, those of no model without anything known of them. */
function fill(text, spans) {
  const tokens = [];
  let place = 0;
  for (const span of spans) {
    if (span.start > place) return [];
    tokens.push(span.token);
    place = span.end;
  }
  return tokens;
}

function packToken({text, logp, top}, withTop) {
  const round = value => value === null ? null : Math.round(value * 100) / 100;
  return withTop && top.length ? [text, round(logp), top.flatMap(([name, value]) => [name, round(value)])] : [text, round(logp)];
}

function readToken(raw) {
  check(Array.isArray(raw) && typeof raw[0] === 'string' && (raw[1] === null || Number.isFinite(raw[1])));
  const flat = raw[2] ?? [], top = [];
  check(Array.isArray(flat) && flat.length <= 64);
  for (let i = 0; i + 1 < flat.length; i += 2) {
    check(typeof flat[i] === 'string' && Number.isFinite(flat[i + 1]));
    top.push([flat[i], flat[i + 1]]);
  }
  return {text: raw[0], logp: raw[1], top};
}

function readState(raw) {
  check(raw && isCount(raw.id) && (raw.parent === null || isCount(raw.parent)));
  check(['start', 'edit', 'model'].includes(raw.kind) && Number.isFinite(raw.time));
  const {at, del, ins} = raw.patch ?? {};
  check(isCount(at) && isCount(del) && typeof ins === 'string' && ins.length <= MOST_TEXT);
  check(Array.isArray(raw.tokens) && raw.tokens.length <= 100_000);
  const tokens = raw.tokens.map(readToken), origin = readOrigin(raw.origin);
  const fits = tokens.reduce((length, token) => length + token.text.length, 0) <= ins.length;
  return {...makeState(raw.id, raw.parent, raw.kind, {at, del, ins}, raw.time, fits ? tokens : [], origin), next: raw.next ?? null};
}

function readOrigin(raw) {
  if (!raw) return null;
  check(typeof raw.model === 'string' && raw.model.length <= 256 && Number.isFinite(raw.seed));
  return {model: raw.model, seed: raw.seed};
}

function isCount(value) { return Number.isSafeInteger(value) && value >= 0; }

function check(condition) {
  if (!condition) throw new TypeError('This is not a text that this page has saved.');
}
