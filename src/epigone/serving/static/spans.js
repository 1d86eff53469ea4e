// Which parts of a text a model wrote, token by token, as the text is changed. Places are in UTF-16 units.

/**
 * @typedef {{at: number, del: number, ins: string}} Patch From `at` on, `del` units are replaced by `ins`.
 * @typedef {{start: number, end: number, token: import('./tokens.js').Token, node: number}} Span
 */

/** The text after a patch. @param {string} text @param {Patch} patch */
export function applyPatch(text, patch) {
  return text.slice(0, patch.at) + patch.ins + text.slice(patch.at + patch.del);
}

/** The smallest patch that makes one text of another. @param {string} before @param {string} after @returns {Patch} */
export function findPatch(before, after) {
  const most = Math.min(before.length, after.length);
  let at = 0, end = 0;
  while (at < most && before[at] === after[at]) at += 1;
  while (end < most - at && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  return {at, del: before.length - at - end, ins: after.slice(at, after.length - end)};
}

/** Where the cursor goes when one text becomes another: to the end of what is new, or to where something went. */
export function findCaret(before, after) {
  const {at, del, ins} = findPatch(before, after), longer = del ? before : after, size = del || ins.length;
  let back = 0;  // what stands on both sides of a change may belong to either: no word is cut
  const isWithinWord = () => /^\p{L}\p{L}$/u.test(after.slice(at + ins.length - back - 1, at + ins.length - back + 1));
  if (!del || !ins) {
    while (back < at && isWithinWord() && longer[at - back - 1] === longer[at - back + size - 1]) back += 1;
  }
  return at + ins.length - (isWithinWord() ? 0 : back);
}

/**
 * The spans after a patch: those that it touches go, those behind it move, those of its own tokens come.
 * @param {Span[]} spans @param {Patch} patch @param {import('./tokens.js').Token[]} tokens of `patch.ins`
 * @param {number} node
 */
export function patchSpans(spans, patch, tokens, node) {
  const end = patch.at + patch.del, moved = patch.ins.length - patch.del;
  const before = spans.filter(span => span.end <= patch.at);
  const after = spans.filter(span => span.start >= end && span.end > patch.at)
    .map(span => ({...span, start: span.start + moved, end: span.end + moved}));
  return [...before, ...placeTokens(tokens, patch.at, node), ...after];
}

/** Spans of tokens that follow one another. @returns {Span[]} */
export function placeTokens(tokens, start, node) {
  const spans = [];
  for (const token of tokens) {
    if (token.text) spans.push({start, end: start + token.text.length, token, node});
    start += token.text.length;
  }
  return spans;
}

/** The span at a place of the text; at a border, the one that begins there. @param {Span[]} spans @param {number} place */
export function findSpan(spans, place) {
  return spans.find(span => span.start <= place && place < span.end) ?? spans.find(span => span.end === place) ?? null;
}

/** Where the passage ends that one model wrote in one go, from a span on. @param {Span[]} spans @param {Span} span */
export function findPassageEnd(spans, span) {
  let end = span.end;
  for (let i = spans.indexOf(span) + 1; i < spans.length && spans[i].start === end && spans[i].node === span.node; i += 1) {
    end = spans[i].end;
  }
  return end;
}

/**
 * Divides a text where marks begin and end, so that each piece has the same marks throughout.
 * @param {number} length @param {Array<{start: number, end: number, name: string, value?: unknown}>} marks
 * @returns {Array<{start: number, end: number, marks: Array<{name: string, value?: unknown}>}>}
 */
export function divide(length, marks) {
  const inside = marks.filter(mark => mark.start < mark.end && mark.start < length);
  const cuts = new Set([0, length]);
  for (const mark of inside) cuts.add(mark.start).add(Math.min(mark.end, length));
  const places = [...cuts].sort((one, other) => one - other);
  const waiting = inside.sort((one, other) => one.start - other.start);
  let open = [], next = 0;
  const pieces = [];
  for (let i = 0; i + 1 < places.length; i += 1) {
    const start = places[i];
    open = open.filter(mark => mark.end > start);
    while (next < waiting.length && waiting[next].start <= start) open.push(waiting[next++]);
    pieces.push({start, end: places[i + 1], marks: [...open]});
  }
  return pieces;
}
