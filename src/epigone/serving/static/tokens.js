// Tokens of a model: their text, how likely they were, and what else could have stood there.

/**
 * @typedef {{text: string, logp: number|null, top: Array<[string, number]>}} Token
 *   `logp` is in nats; `top` holds the likeliest tokens at that place, the likeliest first.
 */

/** Text as a text field keeps it: line ends are "\n", and there is no NUL. @param {string} text */
export function normalise(text) {
  return text.replace(/\r\n?/g, '\n').replaceAll('\0', '\uFFFD');
}

/**
 * The tokens in one chunk of a streamed answer, which has one token where log-probabilities are asked for.
 * A token that is only a part of a character has no text; the one that completes the character has all of it.
 * @param {{text?: string, logprobs?: any}} choice
 * @returns {Token[]}
 */
export function readTokens(choice) {
  const text = normalise(choice.text ?? ''), logprobs = choice.logprobs;
  if (!text && !logprobs?.tokens?.length) return [];
  const top = readTop(logprobs?.top_logprobs?.at(-1));
  return [{text, logp: logprobs?.token_logprobs?.at(-1) ?? null, top}];
}

/** @param {Record<string, number>|null|undefined} best @returns {Array<[string, number]>} */
export function readTop(best) {
  return Object.entries(best ?? {}).sort((one, other) => other[1] - one[1]);
}

/** Whether a token's name in an answer is text that can be put into a text. @param {string} name */
export function isText(name) {
  return !/^bytes:(\\x[0-9a-f]{2})+$/.test(name) && !/^<\|.*\|>$/.test(name) && !/^token_id:\d+$/.test(name);
}

/** How a token is shown by itself: what cannot be seen is named. @param {string} name */
export function show(name) {
  if (/^bytes:/.test(name) && !isText(name)) return 'part of a character';
  if (!isText(name)) return 'end of the text';
  const lines = name.split('\n').length - 1;
  if (!name.trim()) return lines ? (lines > 1 ? 'empty line' : 'new line') : (name ? 'space' : 'nothing');
  return name.replaceAll('\n', '↵').trim();
}

/** A probability in per cent, as people read it. @param {number} logp nats */
export function percent(logp) {
  const share = 100 * Math.exp(logp);
  if (share < 0.01) return 'below 0.01 %';
  return `${share >= 10 ? share.toFixed(0) : share >= 1 ? share.toFixed(1) : share.toFixed(2)} %`;
}

/**
 * Places that a server counts in characters (code points), as places in a JavaScript string (UTF-16 units).
 * @param {string} text @param {number[]} places in rising order
 */
export function convertPlaces(text, places) {
  const found = [];
  let characters = 0, units = 0;
  for (const place of places) {
    while (characters < place && units < text.length) {
      units += text.codePointAt(units) > 0xffff ? 2 : 1;
      characters += 1;
    }
    found.push(units);
  }
  return found;
}

/** Where the last `most` characters of a text begin, never within a character. @param {string} text @param {number} most */
export function findTail(text, most) {
  const start = Math.max(0, text.length - most);
  return start && /[\uDC00-\uDFFF]/.test(text[start]) ? start + 1 : start;
}
